package cli

import (
	"github.com/spf13/cobra"
)

// topics are the pages of help that belong to no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		automationTopic(),
		{Use: "exit-status", Short: "What the exit status of a command means", Long: `The exit status is the same for every command:

  0  done
  1  error, also: could not look
  2  usage: the command line or the configuration is wrong, or a question could not be asked
  3  looked and found something: roles that are due, findings, releases that wait, keys to choose from
  4  the repository changed concurrently: run the command again
  5  signatures are missing
  6  refused as untrusted`},
		{Use: "environment", Short: "Environment variables that visum reads", Long: `  VISUM_IDENTITY         the identity file; --identity has precedence
  VISUM_PASSPHRASE_FILE  a file with the passphrase of key files; --passphrase-file has precedence
  SSH_AUTH_SOCK          the socket of the ssh-agent, for keys with ssh-agent: URIs
  VISUM_PKCS11_MODULE    path of the module for keys with pkcs11: URIs without module-path
  VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE
                         the server and the token of keys with hashivault: URIs
  all                    of programs that sign, for keys with exec: URIs, and of modules for pkcs11: URIs
  AWS_ACCESS_KEY_ID and others of the AWS SDK
                         credentials of s3: storages and awskms: keys
  HTTPS_PROXY, NO_PROXY  proxies for get and clone, as net/http reads them`},
	}
}

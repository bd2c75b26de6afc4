//go:build unix

package git

import (
	"os/exec"
	"syscall"
)

// ownGroup makes the end of the context end the programs too that git starts.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

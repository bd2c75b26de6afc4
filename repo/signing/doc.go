// Package signing has what a signer configures in repo.Config: the ledger, which is the
// signer's own record, the changes that may be signed without a person, and a second
// generation of keys. It also has the errors of the rules that repo.Draft.Sign and
// repo.Draft.Payload apply (rules K1 to K5).
package signing

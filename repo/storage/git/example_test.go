package git_test

import (
	"context"
	"fmt"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage/git"
)

// A vendor publishes to the pages of a git host. Credentials come from git's helpers.
func ExampleOpen() {
	ctx := context.Background()
	branch, err := git.Open(ctx, "git:https://codeberg.org/example/pages.git#updates", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := repo.New(branch, &repo.Config{Ledger: repo.DirLedger("ledger")})
	if err := r.Renew(ctx); err != nil { // one push
		fmt.Println(err)
		return
	}
	size, err := branch.Size(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d files of %d bytes\n", size.Files, size.Bytes)
}

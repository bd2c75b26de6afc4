package s3_test

import (
	"context"
	"fmt"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage/s3"
)

// A vendor publishes to a bucket. Credentials come from the environment or the files of
// the AWS SDK.
func ExampleOpen() {
	ctx := context.Background()
	bucket, err := s3.Open(ctx, "s3://vendor-updates/agent?region=eu-central-1", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := repo.New(bucket, &repo.Config{Ledger: repo.DirLedger("ledger")})
	if _, err := r.Prune(ctx, nil); err != nil {
		fmt.Println(err)
		return
	}
	// Uploads of processes that died.
	if _, err := bucket.Clean(ctx, time.Now().AddDate(0, 0, -7)); err != nil {
		fmt.Println(err)
	}
}

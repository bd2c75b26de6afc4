//go:build !unix

package repo_test

import "time"

func cpuTime() time.Duration { return 0 }

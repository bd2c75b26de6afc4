package mirror_test

import (
	"errors"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
)

type (
	world   = repotest.World
	memory  = repotest.Memory
	endless = repotest.Endless
	object  = map[string]any
)

var (
	noErr      = rawtuf.NoErr
	newMemory  = repotest.NewMemory
	newWorld   = repotest.New
	richWorld  = repotest.Rich
	dated      = repotest.Dated
	add        = repotest.Add
	approve    = repotest.Approve
	options    = repotest.Options
	plainStore = repotest.PlainStore
	findings   = repotest.Findings
	shorten    = repotest.Shorten
	sum        = repotest.Sum
	sum512     = repotest.Sum512
	errKilled  = repotest.ErrKilled
	errCut     = errors.New("line cut")
)

package repo_test

import (
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storagetest"
)

func TestFolder(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) repo.Storage { return repo.Folder(t.TempDir()) })
}

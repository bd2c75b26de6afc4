// Command gotuf does nothing but embed go-tuf's updater; its size is measured.
package main

import (
	"os"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

func main() {
	root, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	cfg, err := config.New(os.Args[2], root)
	if err != nil {
		panic(err)
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = os.Args[3], os.Args[3]
	up, err := updater.New(cfg)
	if err != nil {
		panic(err)
	}
	if err := up.Refresh(); err != nil {
		panic(err)
	}
	info, err := up.GetTargetInfo("agent")
	if err != nil {
		panic(err)
	}
	if _, _, err := up.DownloadTarget(info, os.Args[4], os.Args[5]); err != nil {
		panic(err)
	}
}

#!/usr/bin/env bash
# Builds the programs that the tests of this folder run, in fixed versions, into a folder:
#
#   bash internal/interop/tlog/install.sh DIR
#
# The tests find them in PATH. What is in DIR already in that version is kept.
set -euo pipefail
dir=$(mkdir -p "${1:?the folder to install into}" && cd "$1" && pwd)

# build MODULE PATH VERSION NAME builds the command at MODULE/PATH under a name.
build() {
	local module=$1 path=$2 version=$3 name=$4
	if go version -m "$dir/$name" 2>/dev/null | grep -q "^[[:space:]]*mod[[:space:]]$module[[:space:]]$version[[:space:]]"; then
		echo "$name $version is there"
		return
	fi
	local tmp
	tmp=$(mktemp -d "$dir/tmp.XXXXXX")
	GOBIN=$tmp go install "$module/$path@$version" || { rm -rf "$tmp"; return 1; }
	mv "$tmp/$(basename "$path")" "$dir/$name"
	rmdir "$tmp"
	echo "$name $version"
}

# fsck gets another name, because it is that of a program which checks file systems.
build github.com/transparency-dev/tessera cmd/fsck v1.0.4 tessera-fsck
build filippo.io/torchwood cmd/litewitness v0.6.1 litewitness
build github.com/transparency-dev/witness cmd/omniwitness v0.0.0-20260720115447-2e1c6971d19e omniwitness

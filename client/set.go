package client

import (
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/tuf"
)

// set is a complete, verified set of content metadata under one root.
type set struct {
	timestamp *tuf.Timestamp
	snapshot  *tuf.Snapshot
	files     map[string][]byte // the classes' role files
	fetched   bool              // a file was not there on disk
}

// commit makes a complete set the one that counts, once the state is saved.
func (f *folder) commit(root *tuf.Root, set *set) error {
	id := fmt.Sprintf("%d-%d", root.Version(), set.timestamp.Version())
	if f.Set != id || set.fetched {
		if err := f.mkdir("meta/" + id); err != nil {
			return err
		}
		for name, data := range set.files {
			if err := f.write("meta/"+id+"/"+diskName(name), data); err != nil {
				return err
			}
		}
	}
	f.Set = id
	return f.raiseRoles(root, set.snapshot)
}

// sweep removes the sets that do not count. What stays behind is removed the
// next time.
func (f *folder) sweep() {
	d, err := f.root.Open("meta")
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if name != f.Set {
			_ = f.root.RemoveAll("meta/" + name)
		}
	}
}

// committed returns a role's file of the committed set.
func (f *folder) committed(file tuf.RoleFile) ([]byte, error) {
	if f.Set == "" {
		return nil, fs.ErrNotExist
	}
	return f.read("meta/"+f.Set+"/"+diskName(roleName(file)), file.MaxLength)
}

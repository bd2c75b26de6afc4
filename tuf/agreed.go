package tuf

import "strings"

// Agreed is the content that every party of a class lists under a path. It is no
// permission to use the bytes, which may be recalled or held: see [Approved].
type Agreed struct {
	Path, Class string    // of the charter
	RepoID      string    // see [Charter.RepoID]
	Length      int64     // bytes
	SHA256      string    // lower-case hex
	SHA512      string    // lower-case hex; "" if no party lists it
	Signoffs    []Signoff // one entry for each role that lists the path
}

// Agreed returns the content that every party lists under a path, whether it is
// approved, recalled or held, for auditors who have to name the bytes of a recall or a
// hold. Other errors are those of [Snapshot.Approve].
func (s *Snapshot) Agreed(path string, get Fetch) (Agreed, error) {
	class, err := s.classOf(path)
	if err != nil {
		return Agreed{}, err
	}
	list, err := s.listings(class, path, get, &work{left: maxSearch})
	if err != nil {
		return Agreed{}, err
	}
	a, err := s.agree(class, path, list)
	if err != nil {
		return Agreed{}, err
	}
	return Agreed{a.path, a.class, a.repoID, a.length, a.hashes.SHA256, a.hashes.SHA512, a.Signoffs()}, nil
}

// RecallsOf returns the recalls of the class of a path, of all its roles, for auditors who
// ask about bytes that are no longer listed. [Recall.SHA256] names
// the bytes of each one. Errors are those of [Snapshot.Approve] for the roles of the class.
func (s *Snapshot) RecallsOf(path string, get Fetch) ([]Recall, error) {
	class, err := s.classOf(path)
	if err != nil {
		return nil, err
	}
	var out []Recall
	for _, role := range class.Roles {
		t, err := s.releaseRole(role, get)
		if err != nil {
			return nil, err
		}
		for _, r := range t.recalls {
			if strings.HasPrefix(r.Path, class.Prefix) { // a role can recall only paths of its class
				r.Class, r.Party, r.Role, r.Version = class.Name, role.Party, role.Role, t.doc.version
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// Package charter writes the editable root of a repository ([repo.Root]: parties, keys,
// thresholds, classes, locations, probe, retired hosts, recovery) as one JSON document,
// and reads it back, so that people and scripts change a root without Go code.
//
// [Marshal] writes the document of a root, [Parse] reads one. Neither signs or publishes
// anything, or reads a file, a clock or the network:
//
//	root, labels, err := charter.Parse(data)
//	...
//	draft, err := r.Stage(ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
//	changes, err := r.Diff(ctx, draft)
//
// # Form
//
//	{
//	  "visum-charter": 1,
//	  "repo_id": "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1",
//	  "keys": {
//	    "ann": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "..."}},
//	    "bea": "-----BEGIN PUBLIC KEY-----\n...\n-----END PUBLIC KEY-----\n",
//	    "cem": "ssh-ed25519 AAAA... cem@review"
//	  },
//	  "parties": [{"name": "vendor", "keys": ["ann"], "min": 1}, ...],
//	  "roles": {"timestamp": {"keys": ["cem"], "threshold": 1}, "snapshot": {...}, "targets": {...}},
//	  "classes": [{"name": "agent", "prefix": "agent/",
//	    "roles": [{"party": "vendor", "role": "vendor-agent", "keys": [...], "threshold": 1}, ...],
//	    "hold": {"role": "hold", "keys": [...], "threshold": 1, "max_seconds": 604800}, "hash_bins": false}],
//	  "locations": [{"id": "main", "tier": "primary", "operator": "host", "jurisdiction": "CH", "base": "https://upd.example.org/",
//	    "paths": {"metadata": "metadata/", "targets": "targets/"}, "priority": 10,
//	    "use_from": "2026-11-20T00:00:00Z", "use_until": "2027-11-20T00:00:00Z"}],
//	  "retired": [{"id": "old", "hosts": ["old.example.org"]}],
//	  "probe": {"min_operators": 2, "every_seconds": 21600, "max_age_seconds": 2592000, "mode": "warn"},
//	  "recovery": {"orgs": [{"name": "bank", "keys": [...]}], "threshold": 2, "min_orgs": 2,
//	    "hold_seconds": 1209600, "min_ticks": 14, "counter": 0}
//	}
//
// The names and units of the members are those of the signed charter (docs/spec.md,
// section 4): durations in whole seconds, times in UTC with whole seconds. What package
// repo derives (key ids, threshold of the root role, seq, epoch, floors, dates) is not a
// part of the document.
//
// # Keys
//
// Each key has a label and stands once in the document; the roles name labels. A person
// can see who signs what, and replaces a key in one place. Labels are not signed: they
// are those of [repo.Config].Labels, and a key without a usable one is written as key-
// with the first 16 digits of its id. Such a label of another key is refused, so that a
// replaced key does not keep the name of the former one.
//
// Marshal writes a key as the object that metadata and pins have, not as PEM. The id of a
// key is the hash of that object, and other tools write one public key in several ways
// (ECDSA in hex or PEM). From PEM the id could not be restored, so an unchanged document
// would change the root. Parse also accepts what people exchange: a text in any form that
// [keys.ParsePublic] reads.
//
// # Defaults
//
// A member that is left out has the default of [repo.Root], and Parse fills it in: the
// root that it returns states each value, and Marshal writes it. min and threshold: 1;
// probe: two operators, 6 hours, 30 days, warn; recovery: min_orgs 2, threshold min_orgs,
// 14 days, 14 ticks, counter 0. Without repo_id, a new repository gets a random one. The
// defaults of a location are empty: priority 0, no jurisdiction, no use_from, no
// use_until. roles, classes, locations, retired and recovery may be left out too, for
// example by a script that adds them.
//
// # Laws
//
// Parse of what Marshal writes for a root is that root, with its defaults filled in and
// empty lists nil; Marshal checks it. Marshal of what Parse reads is the canonical form
// of a document: the same root and labels give the same bytes. Lists keep their order.
//
// # Errors and limits
//
// Parse is strict: an unknown member, a second member of one name, a value of another
// type, a number that is negative or has a fraction, a label without a key or a key
// without a role is an error. Every error is an [*Error] that names the path of the
// member and its line, and wraps [tuf.ErrMalformed] or [tuf.ErrTooLarge]. A document has
// at most 1 MiB, 256 keys and 12 levels of nesting; nothing of a longer one is read. An
// RSA key takes up to 0.1 s to check, other keys microseconds. Parse checks the form, not the rules H1 to H13: [repo.Repo.Stage] does, before
// anything is signed.
package charter

package layout

// RepoMember is the custom member of a targets role's signed part that names the
// repository that the role was signed for, by tuf.Charter.RepoID:
//
//	"x-visum-repo": "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"
//
// Without it, a role that a review centre signed for a staging repository, or for
// another vendor with the same key, would verify in this repository too.
const RepoMember = "x-visum-repo"

// RoleMember is the custom member of a targets role's signed part that names the
// role itself:
//
//	"x-visum-role": "review-agent"
//
// TUF metadata does not state its role, and one key often signs several roles, such
// as a release role and its hold. Without the member, a file signed for one of them
// would verify as another (mix-and-match).
const RoleMember = "x-visum-role"

// ReleaseMember is the member of a target's custom object that holds the release fields.
const ReleaseMember = "visum"

// SequenceMember is the custom member of a release role's signed part that holds
// the highest sequence number assigned in that role for each product. With it no
// number is assigned twice, even after releases were removed:
//
//	"x-visum-sequence": {"agent": 1207}
//
// Clients do not read it.
const SequenceMember = "x-visum-sequence"

// RecallMember is the custom member of a release role's signed part that lists
// the releases that products should no longer run:
//
//	"x-visum-recalled": [{"path": "...", "sha256": "...", "reason": "...", "at": "2018-11-12T09:00:00Z"}]
//
// A recall names bytes: a path of the role's class with the same sha256 is not
// approved (tuf.ErrRecalled). path is the path at the time of the recall; it must be
// in the class. Standard TUF clients do not read this member; for them the role
// no longer lists the release.
const RecallMember = "x-visum-recalled"

// AgreementMember is the custom member of "delegations" that requires several
// delegated roles to agree on a target, similar to TAP 3:
//
//	"x-visum-agreement": [{"roles": ["a", "b", "c"], "min_roles_in_agreement": 2, "terminating": true}]
//
// Each role of a group is also a normal delegation. Standard TUF clients do not
// know the member and use the first role that lists the target.
const AgreementMember = "x-visum-agreement"

// CharterMember is the custom member of a root's signed part that holds the charter.
const CharterMember = "x-visum"

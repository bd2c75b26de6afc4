// Package client fetches software updates for the product that embeds it.
//
// A product embeds a pin, makes one [Client], and calls Refresh, Latest and
// Save when it wants to know whether there is something new:
//
//	c, err := client.New(pin, &client.Config{Dir: stateFolder})
//	view, err := c.Refresh(ctx)
//	rel, err := view.Latest(ctx, client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: "1.2.0"})
//	err = c.Save(ctx, rel.Approved, path)
//
// # What it trusts
//
// Nothing but the pin. Roots lead from the pin to the present, each signed by
// every party; where to ask stands in the roots, so the repository may move and
// the client follows. Content is used only where every party of its class lists
// the same bytes. Which host delivered something never matters.
//
// # What happens in a refresh
//
// The roots accepted before are replayed from the pin. Then the next root is
// asked for at the location that comes first; a bad answer is kept as evidence and
// the next location is asked. Then a location is asked for its timestamp.
//
// At the first refresh of a process, after a failure, and as often as the charter's
// probe says, a refresh is a probe: for both files it goes on until as many different
// operators as the charter wants (min_operators, mostly two) have answered, and the
// newest that verifies counts. It asks the location that comes first and, in turn,
// those that probes asked longest ago; the state keeps the order. So of n operators,
// with min_operators m of two or more, each is asked at least once in ceil((n-1)/(m-1))
// probes running: with two of three operators in every second one. A root, a hold or
// a recall that one honest operator alone serves is seen within so many probe
// intervals, whatever the others serve, and one that all but m-1 operators serve
// within one interval. Locations of one operator, by name or by host, take turns too;
// those may take as many probes as there are locations. A location that did not answer
// has another turn as many probes later; one that sent bad content, or asked for a
// pause, not before its rest is over, which is an hour at most.
//
// A probe costs two requests more for each operator beyond the first than a refresh in
// between, which takes two: root and timestamp. With min_operators 1 no other operator
// is ever asked as long as the first location has content in date: it can hide a new
// root for as long.
//
// No refresh gives up before everybody was asked: where the newest root has expired,
// where a newer one was seen before, where too few operators confirmed it for too long
// (mode enforce), and where no location has valid content under it, all that may be
// contacted are asked for a next root, whatever is due.
//
// Snapshot and release roles come from any location, for the timestamp
// leads to their bytes. Where no location has them, an older timestamp will do that is
// not below what was trusted before. What is installed changes only by [Client.Save],
// from a complete, valid set.
//
// No location is waited for alone for longer than 5 s without an answer, or 10 s in
// all, while another is untried: the next one is asked in addition. So five that
// hang delay a refresh by 30 s at most, and five that send a byte now and then by
// 60 s. A location that hung, or served bytes that do not verify, is asked last for
// a minute, and up to an hour if it does so again.
//
// Metadata may come gzip-coded. One byte on the wire may become 32, one of the file
// may take two on the wire, beyond the first 64 KiB of each; more is refused with an
// error that wraps tuf.ErrTooLarge.
//
// # What it offers
//
// Releases of a product are ordered by their version (tuf.Version), across channels,
// platforms and classes. [View.Latest] offers the highest one above what is installed
// that every party lists, that no party holds or recalled, and that this machine may
// have now; min_version leads to it step by step. A machine changes its channel by
// asking for another one: it gets what is newer there, and goes back only with
// Query.AllowDowngrade. Every release above what is installed has a [Decision] with
// the reason, also one with release fields that cannot be read.
//
// # What it keeps
//
// The state folder holds the way that was gone: roots, and versions that content
// does not go below as long as the keys are the same. A damaged file in it is
// replaced, and does not open a way back. An attacker with write access can take
// the client back to the pin, or keep it from working, and can shorten the wait for
// a recovery that the recovery keys signed where the regular root has expired or has
// neither successor nor content; no more.
//
// # Errors
//
// [ErrDark], [ErrStale], [ErrBehind], [ErrPartial] and [ErrNoContent] mean: not
// now, try again later; nothing was lost. Errors that wrap tuf.ErrUntrusted mean:
// do not use this. Errors of a [Source] or of the disk are handed through.
//
// A Client starts no goroutine that outlives a call and changes nothing global.
// It reads no environment variable, but for the proxy settings that net/http
// honours.
package client

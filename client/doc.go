// Package client fetches software updates for the product that embeds it.
//
// A product embeds a pin, makes one [Client], and calls Refresh, Latest and Save to
// look for an update and install it:
//
//	c, err := client.New(pin, &client.Config{Dir: stateDir})
//	view, err := c.Refresh(ctx)
//	rel, err := view.Latest(ctx, client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: "1.2.0"})
//	err = c.Save(ctx, rel.Approved, path)
//
// # Trust
//
// Only the pin is trusted. A chain of roots leads from the pin to the current root,
// each signed by every party. The locations of the repository are listed in the roots,
// so the repository may move and the client follows. A target is used only if every
// party of its class lists the same bytes. Trust never depends on the host that served
// a file.
//
// # Refresh
//
// Previously accepted roots are re-verified from the pin. The client then requests the
// next root from the first location. An invalid answer is kept as evidence and the next
// location is asked. Then the timestamp is requested.
//
// A refresh is a probe if it is the first of a process, follows a failure, or is due
// by the charter's probe interval. A probe asks for both files until as many different
// operators as the charter requires (min_operators, usually two) have answered, and
// uses the newest that verifies. It asks the first location and, in turn, those that
// probes asked longest ago; the state keeps the order. So with n operators and
// min_operators m of two or more, each operator is asked at least once in
// ceil((n-1)/(m-1)) consecutive probes: with two of three operators in every second
// probe. A root, a hold or a recall that only one honest operator serves is seen within
// that many probe intervals, whatever the others serve; one that all but m-1 operators
// serve is seen within one interval. Locations of one operator, by name or by host,
// take turns too, which may take as many probes as there are locations. A location that
// did not answer is asked again after as many probes; one that sent bad content, or
// asked for a pause, not before its pause is over, which is an hour at most.
//
// A refresh that is not a probe makes two requests, for root and timestamp. A probe
// makes two more for each further operator. With min_operators 1 no other operator is
// asked as long as the first location serves unexpired content: it can withhold a new
// root for that time.
//
// All locations are asked for a newer root before a refresh fails: if the newest root
// has expired, if a newer one was seen before, if too few operators confirmed it for too
// long (mode enforce), and if no location has valid content under it.
//
// Snapshot and release roles may come from any location, because the timestamp
// determines their bytes. If no location has them, an older timestamp is used that is
// not below the previously trusted one. Only [Client.Save] changes what is installed,
// from a complete and valid set.
//
// # Slow and faulty locations
//
// The client waits for one location alone for at most 5 s without an answer, or 10 s in
// total, while another is untried: then it asks the next one in addition. So five
// locations that do not answer delay a refresh by at most 30 s, and five that send a
// byte now and then by at most 60 s. A location that did not answer in time, or served
// bytes that do not verify, is asked last for a minute, and for up to an hour if that
// happens again.
//
// A location that gets more time, because no other has the file, must deliver at least
// 8 KiB per second of metadata, or 1 KiB per second of targets, see [Config]. If the
// keys of the newest root did not sign a location's timestamp, the location is asked for
// the next root again before the timestamp is refused: the root may just have been
// published.
//
// Certificates are verified at the client's time: [Config].Now, or the time at which
// the newest root was signed if that is later. Requests for files that may change make
// HTTP caches revalidate them. Redirects of metadata are not followed, those of targets
// as documented at [Client.Save].
//
// Metadata may be gzip-coded. Beyond the first 64 KiB, one compressed byte may become at
// most 32, and one byte of the file may take at most two compressed ones; otherwise the
// error wraps tuf.ErrTooLarge.
//
// # Releases
//
// Releases of a product are ordered by version (tuf.Version), across channels,
// platforms and classes. [View.Latest] offers the highest one above the installed
// version that every party lists, that no party holds or has recalled, and that this
// machine may install now; min_version requires intermediate releases first. A machine
// changes its channel by querying another one: it gets what is newer there, and older
// versions only with Query.AllowDowngrade. Every release above the installed version has
// a [Decision] with a reason, including those with malformed release fields.
//
// # State
//
// The state directory stores the accepted root chain and version floors, below which
// versions are refused as long as the keys are the same. A damaged file is replaced, and
// does not permit rollback; a file that is no longer needed and cannot be removed is
// ignored. Evidence is refused metadata that may indicate an attack, which excludes the
// old timestamp of a mirror that lags, and signatures of unknown key types.
//
// An attacker with write access can reset the client to the pin or break it. They can
// also shorten the waiting period for a recovery that the recovery keys signed, if the
// regular root has expired or has neither successor nor content. Nothing more is
// possible.
//
// # Errors
//
// A failed refresh returns a [*RefreshError] with the newest trusted root, the evidence
// and the errors of each location. [ErrUnreachable], [ErrStale], [ErrRootRollback], [ErrMoreRoots] and [ErrNoContent] are temporary:
// try again later; nothing was lost. Errors that wrap tuf.ErrUntrusted mean that the
// data must not be used. Errors of a [Source] or of the disk are wrapped unchanged.
//
// A Client starts no goroutine that outlives a call and changes nothing global. It
// reads no environment variables except the proxy settings that net/http supports.
package client

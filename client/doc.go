// Package client fetches software updates for the product that embeds it.
//
// A product embeds a pin, makes one [Client], and calls Refresh, Latest and
// Save when it wants to know whether there is something new:
//
//	c, err := client.New(pin, &client.Config{Dir: stateFolder})
//	view, err := c.Refresh(ctx)
//	rel, err := view.Latest(ctx, client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: 7})
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
// asked for at the places that the newest root names, until two different
// operators say there is none; a bad answer is kept as evidence and the next
// place is asked. Where the newest root has expired, or a newer one was seen
// before, no place is left out. Timestamp, snapshot and release roles come from
// the first place that delivers a complete, valid set. What is installed changes
// only by [Client.Save], from such a set.
//
// # What it keeps
//
// The state folder holds the way that was gone: roots, and versions that content
// does not go below as long as the keys are the same. A damaged file in it is
// replaced, and does not open a way back. Who can write there can take the
// client back to the pin, or keep it from working, no more.
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

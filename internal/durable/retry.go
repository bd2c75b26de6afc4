package durable

import "time"

// retryFor bounds [Retry]. Virus scanners and indexers hold new files open for some
// tenths of a second.
const retryFor = 2 * time.Second

// Retry calls fn until it succeeds, fails permanently, or has failed for two seconds
// because another process has the file open. It returns the last error. Only Windows
// and its network mounts report such failures; elsewhere fn is called once.
func Retry(fn func() error) error { return retry(fn, busy) }

func retry(fn func() error, busy func(error) bool) error {
	pause, end := time.Millisecond, time.Now().Add(retryFor)
	for {
		err := fn()
		if err == nil || !busy(err) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

package s3

import "io"

// toldReader tells the position of the body of a request after each read. The HTTP client
// reads in a goroutine of its own, and may still do so when the request has ended.
type toldReader struct {
	io.ReadSeeker
	told chan<- int64
	end  <-chan struct{}
}

func (r *toldReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p)
	if at, err := r.Seek(0, io.SeekCurrent); err == nil && n > 0 {
		select {
		case r.told <- at:
		case <-r.end:
		}
	}
	return n, err
}

// telling calls call in another goroutine, and meanwhile fn, in this one, with the numbers
// that call sends. The second channel is closed when nothing receives any longer.
func telling(fn func(int64), call func(chan<- int64, <-chan struct{}) error) error {
	told, end, done := make(chan int64), make(chan struct{}), make(chan error, 1)
	defer close(end)
	go func() { done <- call(told, end) }()
	for {
		select {
		case n := <-told:
			fn(n)
		case err := <-done:
			return err
		}
	}
}

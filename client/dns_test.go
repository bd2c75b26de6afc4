package client_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// nameServer is a small DNS server that logs queries. It knows hosts with one IPv4
// address each; other names do not exist.
type nameServer struct {
	conn net.PacketConn

	mu    sync.Mutex
	hosts map[string]netip.Addr
	log   []string
}

// serveNames answers on conn until the test ends or conn is closed.
func serveNames(t *testing.T, conn net.PacketConn) *nameServer {
	s := &nameServer{conn: conn, hosts: map[string]netip.Addr{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := s.answer(buf[:n]); reply != nil {
				conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return s
}

// answer builds the reply to a query with one question (RFC 1035, section 4).
func (s *nameServer) answer(query []byte) []byte {
	if len(query) < 12 || binary.BigEndian.Uint16(query[4:]) != 1 {
		return nil
	}
	var labels []string
	end := 12
	for end < len(query) && query[end] != 0 {
		next := end + 1 + int(query[end])
		if next > len(query) {
			return nil
		}
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	end += 5 // the root label, type and class
	if end > len(query) {
		return nil
	}
	name := strings.ToLower(strings.Join(labels, "."))
	s.mu.Lock()
	s.log = append(s.log, name)
	addr, known := s.hosts[name]
	s.mu.Unlock()

	reply := append([]byte{}, query[:end]...)
	binary.BigEndian.PutUint16(reply[2:], 0x8580) // answer, authoritative, recursion
	for i := 6; i < 12; i++ {
		reply[i] = 0
	}
	switch {
	case !known:
		reply[3] |= 3 // no such name
	case binary.BigEndian.Uint16(query[end-4:]) == 1: // A
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // TTL 0
		reply = append(reply, addr.AsSlice()...)
	}
	return reply
}

// points maps names to an address.
func (s *nameServer) points(addr string, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.hosts[n] = netip.MustParseAddr(addr)
	}
}

// queries returns how often a name was queried since the last call, and resets all
// counts.
func (s *nameServer) queries(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.log {
		if q == name {
			n++
		}
	}
	s.log = nil
	return n
}

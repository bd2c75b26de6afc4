package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// country is a network of namespaces: each location is a machine with nginx and a
// certificate, the product is a process on another, names come from a DNS server on a
// third. It is not visible outside.
type country struct {
	*move
	ca    *authority
	base  string // of the names of the namespaces
	names *nameServer
}

// machinesOf are the machines, with their addresses.
var machinesOf = map[string]string{"a": "10.77.0.1", "b": "10.77.0.2", "z": "10.77.0.3", "box": "10.77.0.66", "product": "10.77.0.9"}

var hostOf = map[string]string{"a": hostA, "b": hostB, "z": hostZ}

func needsNamespaces(t *testing.T) {
	missing := ""
	for _, tool := range []string{"ip", "nginx"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = err.Error()
		}
	}
	if os.Geteuid() != 0 {
		missing = "not root"
	} else if out, err := exec.Command("unshare", "-n", "true").CombinedOutput(); err != nil {
		missing = string(out)
	}
	if missing != "" {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal(missing)
		}
		t.Skipf("needs root, network namespaces, ip and nginx (Debian: apt-get install iproute2 nginx-light): %s; TestNames does the like without root", missing)
	}
}

func (c *country) run(name string, args ...string) {
	c.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// within runs fn on a thread in a namespace; sockets created there stay there.
func (c *country) within(ns string, fn func()) {
	c.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f, err := os.Open("/run/netns/" + c.base + ns)
		if err == nil {
			defer f.Close()
			if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
				fn()
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		c.t.Fatal(err)
	}
}

func newCountry(t *testing.T) *country {
	c := &country{move: newMove(t, orders[2]), ca: newAuthority(t), base: fmt.Sprintf("visum%d-", os.Getpid())}
	c.pinAt = 2
	t.Cleanup(func() {
		for _, ns := range append([]string{"net"}, keysOf(machinesOf)...) {
			_ = exec.Command("ip", "netns", "del", c.base+ns).Run()
			_ = os.RemoveAll("/etc/netns/" + c.base + ns)
		}
		_ = os.Remove("/etc/netns")
	})
	hub := c.base + "net"
	c.run("ip", "netns", "add", hub)
	c.run("ip", "-n", hub, "link", "add", "name", "hub", "type", "bridge")
	c.run("ip", "-n", hub, "addr", "add", "10.77.0.53/24", "dev", "hub")
	c.run("ip", "-n", hub, "link", "set", "dev", "hub", "up")
	for ns, addr := range machinesOf {
		c.run("ip", "netns", "add", c.base+ns)
		c.run("ip", "-n", hub, "link", "add", "to-"+ns, "type", "veth", "peer", "name", "eth0", "netns", c.base+ns)
		c.run("ip", "-n", hub, "link", "set", "to-"+ns, "master", "hub", "up")
		c.run("ip", "-n", c.base+ns, "addr", "add", addr+"/24", "dev", "eth0")
		c.run("ip", "-n", c.base+ns, "link", "set", "eth0", "up")
		c.run("ip", "-n", c.base+ns, "link", "set", "lo", "up")
	}
	etc := "/etc/netns/" + c.base + "product"
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, etc+"/resolv.conf", []byte("nameserver 10.77.0.53\noptions timeout:1 attempts:1\n"))
	var conn net.PacketConn
	c.within("net", func() {
		var err error
		if conn, err = net.ListenPacket("udp4", "10.77.0.53:53"); err != nil {
			t.Error(err)
		}
	})
	c.names = serveNames(t, conn)
	for ns, host := range hostOf {
		c.nginx(ns, c.ca, host, "root "+filepath.Join(c.dir, ns)+";")
		c.names.points(machinesOf[ns], host)
	}
	c.nginx("box", newAuthority(t), hostB, "return 302 https://portal.example/;")
	return c
}

func keysOf(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// nginx starts a server with a certificate on a machine.
func (c *country) nginx(ns string, ca *authority, host, what string) {
	c.t.Helper()
	dir := c.t.TempDir()
	cert := ca.issue(c.t, host)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	mustWrite(c.t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	mustWrite(c.t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	mustWrite(c.t, filepath.Join(dir, "nginx.conf"), fmt.Appendf(nil, `daemon off; master_process off; user root; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http { access_log off; client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
 server { listen 443 ssl; server_name %[2]s; ssl_certificate cert.pem; ssl_certificate_key key.pem; location / { %[3]s } } }
`, dir, host, what))
	cmd := exec.Command("ip", "netns", "exec", c.base+ns, "nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 200 {
		var conn net.Conn
		c.within(ns, func() { conn, err = net.DialTimeout("tcp4", machinesOf[ns]+":443", time.Second) })
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("nginx on %s: %v", ns, err)
}

// publishes writes the files that machines serve.
func (c *country) publishes(r *rawtuf.Repo, machines ...string) {
	c.t.Helper()
	for _, ns := range machines {
		dir := filepath.Join(c.dir, ns, "r", "metadata")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			c.t.Fatal(err)
		}
		for name, data := range r.Files {
			mustWrite(c.t, filepath.Join(dir, name), data)
		}
	}
}

// wakes runs the product and returns its output.
func (c *country) wakes() string {
	c.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	pin := c.at[1].Pin()
	pin["locations"] = rawtuf.At(c.at[2].Root, "x-visum")["locations"]
	dir := c.t.TempDir()
	mustWrite(c.t, filepath.Join(dir, "pin.json"), rawtuf.Marshal(pin))
	mustWrite(c.t, filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.cert.Raw}))
	cmd := exec.Command("ip", "netns", "exec", c.base+"product", exe)
	cmd.Env = append(os.Environ(), "VISUM_TEST_COUNTRY="+dir, "VISUM_TEST_STATE="+c.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// citizen is the product's process: one refresh with the names, certificates and
// network of its machine.
func citizen(dir string) {
	pin, err := os.ReadFile(filepath.Join(dir, "pin.json"))
	ca, err2 := os.ReadFile(filepath.Join(dir, "ca.pem"))
	pool := x509.NewCertPool()
	if err != nil || err2 != nil || !pool.AppendCertsFromPEM(ca) {
		fmt.Println(err, err2)
		os.Exit(1)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	c, err := client.New(pin, &client.Config{Dir: os.Getenv("VISUM_TEST_STATE"), HTTP: &http.Client{Transport: tr}, Retries: -1,
		MetadataTimeout: 20 * time.Second, Now: func() time.Time { return rawtuf.Now }})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	view, err := c.Refresh(context.Background())
	if failed, ok := errors.AsType[*client.RefreshError](err); ok && errors.Is(err, client.ErrUnreachable) {
		fmt.Println("root", failed.Root.Version(), "unreachable")
		return
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("root", view.Root().Version(), view.Location())
}

// watch counts packets for a machine: IPv4, and ARP requests for its address.
func (c *country) watch(ns string) *atomic.Int64 {
	var n atomic.Int64
	fd := -1
	const all = 0x0300 // ETH_P_ALL in network order
	c.within(ns, func() { fd, _ = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all) })
	if fd < 0 {
		c.t.Fatal("no packet socket")
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		c.t.Fatal(err)
	}
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		me := net.ParseIP(machinesOf[ns]).To4()
		buf := make([]byte, 2048)
		for !stop.Load() {
			k, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			ll, ok := from.(*unix.SockaddrLinklayer)
			if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			switch {
			case ll.Protocol == 0x0008 && k >= 20 && net.IP(buf[16:20]).Equal(me), ll.Protocol == 0x0608 && k >= 28 && net.IP(buf[24:28]).Equal(me):
				n.Add(1)
			}
		}
	}()
	c.t.Cleanup(func() { stop.Store(true); <-ended; unix.Close(fd) })
	return &n
}

// The move end to end, over real network stacks. After the old location is retired it
// receives no packet and its name is not queried, although the pin lists it and
// everything else is unreachable.
func TestNamespaces(t *testing.T) {
	needsNamespaces(t)
	c := newCountry(t)
	atA := c.watch("a")
	want := func(what string) {
		t.Helper()
		if got := c.wakes(); got != what {
			t.Fatalf("output %q, want %q", got, what)
		}
	}
	c.publishes(c.at[1], "a", "z")
	want("root 1 a")
	c.publishes(c.at[2], "a", "b", "z")
	want("root 2 a")
	if atA.Load() == 0 || c.names.queries(hostA) == 0 {
		t.Fatal("the watch does not count requests to the old location")
	}
	c.publishes(c.at[3], "a", "b", "z")
	want("root 3 b")
	c.publishes(c.at[4], "b", "z")
	want("root 4 b")

	c.names.queries("")
	time.Sleep(300 * time.Millisecond) // packets in flight
	atA.Store(0)
	want("root 4 b")
	c.run("ip", "-n", c.base+"b", "link", "set", "eth0", "down")
	c.run("ip", "-n", c.base+"z", "link", "set", "eth0", "down")
	c.names.points("10.77.0.66", hostB, hostZ) // replaced by a middlebox that redirects
	want("root 4 unreachable")
	if q := c.names.queries(hostA); q > 0 {
		t.Errorf("the name of the retired location was requested %d times", q)
	}
	c.names.conn.Close() // the DNS server is down
	want("root 4 unreachable")
	time.Sleep(300 * time.Millisecond)
	if n := atA.Load(); n > 0 {
		t.Errorf("%d packets came to the retired location", n)
	}
}

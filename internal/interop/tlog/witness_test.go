//go:build unix

package tlog_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// cosignerProgram is a witness of another project, which knows one log.
type cosignerProgram struct {
	key     tlog.Key
	url     string
	restart func() // as after a power failure
}

// litewitness runs with a key in a real ssh-agent, and with the tables that its
// administration tool writes.
func litewitness(t *testing.T, log *rawlog.Log) *cosignerProgram {
	t.Helper()
	program := rawtuf.Program(t, "litewitness", install)
	agent, add, keygen := rawtuf.Program(t, "ssh-agent", "Debian's openssh-client"), rawtuf.Program(t, "ssh-add", "Debian's openssh-client"), rawtuf.Program(t, "ssh-keygen", "Debian's openssh-client")
	sqlite := rawtuf.Program(t, "sqlite3", "Debian's sqlite3")
	dir := socketDir(t)
	socket, private, db := filepath.Join(dir, "agent"), filepath.Join(dir, "key"), filepath.Join(dir, "db")
	start(t, "unix", socket, agent, "-D", "-a", socket)
	rawtuf.Run(t, "", keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", private)
	cmd := exec.Command(add, "-q", private)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fingerprint := strings.Fields(rawtuf.Run(t, "", keygen, "-l", "-f", private))[1]
	public, err := os.ReadFile(private + ".pub")
	rawtuf.NoErr(t, err)
	blob, err := base64.StdEncoding.DecodeString(strings.Fields(string(public))[1])
	rawtuf.NoErr(t, err)
	rawtuf.Run(t, "", sqlite, db, fmt.Sprintf(`CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL);
		CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin));
		INSERT INTO log VALUES ('%s', 0, '%s');
		INSERT INTO key VALUES ('%[1]s', '%[3]s');`, log.Name, base64.StdEncoding.EncodeToString(tlog.EmptyRoot[:]), log))
	w := &cosignerProgram{key: tlog.Key{Name: "lite.example", Type: tlog.TypeCosigner, Public: blob[len(blob)-ed25519.PublicKeySize:]}}
	run := func() *process {
		address := freeAddress(t)
		w.url = "http://" + address
		return start(t, "tcp", address, program, "-name", w.key.Name, "-db", db, "-ssh-agent", socket, "-key", fingerprint, "-listen", address)
	}
	p := run()
	if !strings.Contains(p.out.String(), w.key.String()) {
		t.Fatalf("litewitness has another key than %s: %s", w.key, p.out)
	}
	w.restart = func() { p.kill(); p = run() }
	return w
}

// socketDir is a folder whose path is short enough for a socket in it.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	rawtuf.NoErr(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// omniwitness runs with a key in a file.
func omniwitness(t *testing.T, log *rawlog.Log) *cosignerProgram {
	t.Helper()
	program := rawtuf.Program(t, "omniwitness", install)
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	w := &cosignerProgram{key: tlog.Key{Name: "omni.example", Type: tlog.TypeCosigner, Public: public}}
	plain := tlog.Key{Name: w.key.Name, Type: tlog.TypeLog, Public: public}
	secret := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", plain.Name, plain.ID(), base64.StdEncoding.EncodeToString(append([]byte{plain.Type}, private.Seed()...)))
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, "key"), []byte(secret), 0o600))
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, "logs"), fmt.Appendf(nil, "Logs:\n  - Origin: %s\n    PublicKey: %s\n    URL: https://log.example/\n", log.Name, log), 0o600))
	run := func() *process {
		address := freeAddress(t)
		w.url = "http://" + address
		return start(t, "tcp", address, program, "-listen", address, "-metrics_listen", "", "-private_key_path", filepath.Join(dir, "key"),
			"-additional_logs", filepath.Join(dir, "logs"), "-db_file", filepath.Join(dir, "db"), "-logtostderr")
	}
	p := run()
	w.restart = func() { p.kill(); p = run() }
	return w
}

// add asks for a cosignature of the log's tree that continues a tree of old entries.
func (w *cosignerProgram) add(t *testing.T, log *rawlog.Log, old int64, proof []tlog.Hash) (status int, answer string) {
	t.Helper()
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintln(&body, base64.StdEncoding.EncodeToString(h[:]))
	}
	fmt.Fprintf(&body, "\n%s", log.Note(time.Time{}))
	resp, err := http.Post(w.url+"/add-checkpoint", "text/plain", &body)
	rawtuf.NoErr(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	rawtuf.NoErr(t, err)
	return resp.StatusCode, string(data)
}

// signs is add with the log's own proof.
func (w *cosignerProgram) signs(t *testing.T, log *rawlog.Log, old int64) string {
	t.Helper()
	proof, err := log.Tree.Consistency(old)
	rawtuf.NoErr(t, err)
	status, line := w.add(t, log, old, proof)
	if status != http.StatusOK {
		t.Fatalf("%s: %d after %d entries: %d %s", w.key.Name, log.Tree.Size, old, status, line)
	}
	return line
}

// The witnesses of two other projects cosign a log that grows, over borders of tiles and
// restarts. Package tlog verifies their cosignatures as a quorum of both. They refuse a fork
// of the log, a wrong proof, and another log, and sign the log again afterwards.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	l := rawlog.NewLog(origin)
	lite, omni := litewitness(t, l), omniwitness(t, l)
	both := []*cosignerProgram{lite, omni}
	p, err := tlog.ParsePolicy(fmt.Sprintf("log %s\nwitness lite %s\nwitness omni %s\ngroup q all lite omni\nquorum q\n", l, lite.key, omni.key))
	rawtuf.NoErr(t, err)
	begin := time.Now().Truncate(time.Second)
	cosigned := func(old int64) {
		t.Helper()
		note := string(l.Note(time.Time{}))
		for i, w := range both {
			note += w.signs(t, l, old)
			last := l.Tree.Size - 1
			e, err := p.Verify(leaf(int(last)), l.Proof(last, []byte(note)))
			if i == 0 {
				if !errors.Is(err, tlog.ErrQuorum) {
					t.Fatalf("one of two: %v", err)
				}
				continue
			}
			rawtuf.NoErr(t, err)
			if len(e.Cosigners) != 2 || e.Time.Before(begin) || e.Time.After(time.Now()) {
				t.Fatalf("%+v, between %s and now", e, begin)
			}
		}
	}
	old := int64(0)
	for _, size := range []int{1, 5, 305, 305, 307} {
		if batch := leaves(len(l.Leaves), size); len(batch) > 0 {
			l.Append(batch...)
		}
		cosigned(old)
		old = int64(size)
	}

	// Another tree of the same size, and a larger one that begins with another tree.
	same, larger := rawlog.NewLog(origin), rawlog.NewLog(origin)
	same.Append(leaves(1, 308)...)
	larger.Append(leaves(1, 311)...)
	other := rawlog.NewLog("other.example/log")
	other.Append(leaves(0, 5)...)
	forged := rawlog.NewLog(origin)
	forged.Signer = rawlog.NewSigner("other.example/log", tlog.TypeLog)
	forged.Signer.Name = origin
	forged.Append(leaves(0, 310)...)
	wrong := []tlog.Hash{{1}}
	fork, err := larger.Tree.Consistency(307)
	rawtuf.NoErr(t, err)
	refused := func() {
		t.Helper()
		for _, w := range both {
			for what, row := range map[string]struct {
				log    *rawlog.Log
				old    int64
				proof  []tlog.Hash
				status int
			}{
				"another tree of the size": {same, 307, nil, http.StatusUnprocessableEntity},
				"a larger fork":            {larger, 307, fork, http.StatusUnprocessableEntity},
				"a wrong proof":            {larger, 307, wrong, http.StatusUnprocessableEntity},
				"an older tree":            {l, 305, nil, http.StatusConflict},
				"no tree":                  {l, 0, nil, http.StatusConflict},
				"a later tree":             {larger, 308, nil, http.StatusConflict},
			} {
				status, answer := w.add(t, row.log, row.old, row.proof)
				if status != row.status || status == http.StatusConflict && answer != "307\n" {
					t.Errorf("%s: %s: %d %q", w.key.Name, what, status, answer)
				}
			}
			// The specification wants 404 and 403.
			want := map[*cosignerProgram]int{lite: http.StatusForbidden, omni: http.StatusInternalServerError}[w]
			for what, log := range map[string]*rawlog.Log{"an unknown log": other, "another key": forged} {
				if status, answer := w.add(t, log, 0, nil); status != want || strings.Contains(answer, "—") {
					t.Errorf("%s: %s: %d %q", w.key.Name, what, status, answer)
				}
			}
		}
	}
	refused()
	for _, w := range both {
		w.restart()
	}
	refused()
	l.Append(leaves(307, 700)...)
	cosigned(307)
}

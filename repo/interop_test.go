package repo_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
)

// stock is a TUF client that knows nothing of visum. It starts from the newest root in
// dir/metadata, which it updates, and returns the content of each path, or nil if
// there is no such target.
type stock func(t *testing.T, url, dir string, paths []string) map[string]any

func goTUF(t *testing.T, url, dir string, paths []string) map[string]any {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(dir, "metadata", "root.json"))
	noErr(t, err)
	cfg, err := config.New(url+"/metadata", root)
	noErr(t, err)
	cfg.RemoteTargetsURL, cfg.LocalMetadataDir, cfg.LocalTargetsDir = url+"/targets", filepath.Join(dir, "metadata"), filepath.Join(dir, "targets")
	u, err := updater.New(cfg)
	noErr(t, err)
	noErr(t, u.Refresh())
	found := map[string]any{}
	for _, p := range paths {
		found[p] = nil
		info, err := u.GetTargetInfo(p)
		if err != nil {
			if !strings.Contains(err.Error(), "not found") {
				t.Error(err)
			}
			continue
		}
		_, data, err := u.DownloadTarget(info, "", "")
		noErr(t, err)
		found[p] = string(data)
	}
	return found
}

const tufJS = "testdata/tufjs"

func tufjs(t *testing.T, url, dir string, paths []string) map[string]any {
	t.Helper()
	node, err := startNode()
	noErr(t, err)
	node.Lock()
	defer node.Unlock()
	noErr(t, json.NewEncoder(node.in).Encode(map[string]any{"url": url, "dir": dir, "paths": paths}))
	var answer struct {
		Found map[string]any
		Error string
	}
	noErr(t, node.out.Decode(&answer))
	if answer.Error != "" {
		t.Fatal(answer.Error)
	}
	return answer.Found
}

// node is one process for all tests, because its start takes longer than its work. It
// ends when its standard input is closed.
type node struct {
	sync.Mutex
	in  io.Writer
	out *json.Decoder
}

var startNode = sync.OnceValues(func() (*node, error) {
	cmd := exec.Command("node", filepath.Join(tufJS, "find.js"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &node{in: in, out: json.NewDecoder(out)}, cmd.Start()
})

func TestStockGoTUF(t *testing.T) { stockStory(t, goTUF) }

func TestStockTUFJS(t *testing.T) { rawtuf.TUFJS(t, tufJS); stockStory(t, tufjs) }

// A standard TUF client follows the repository from its first root, through every
// change of root. It sees what the review party lists and nothing else.
func stockStory(t *testing.T, look stock) {
	t.Parallel()
	w := emptyWorld(t)
	w.Now = time.Now()
	w.Update(w.Define)
	first, err := w.Store.Read(t.Context(), "metadata/1.root.json")
	noErr(t, err)
	server := httptest.NewServer(w.Store)
	t.Cleanup(server.Close)
	fresh := func() string {
		dir := t.TempDir()
		noErr(t, os.Mkdir(filepath.Join(dir, "metadata"), 0o755))
		noErr(t, os.Mkdir(filepath.Join(dir, "targets"), 0o755))
		noErr(t, os.WriteFile(filepath.Join(dir, "metadata", "root.json"), first, 0o644))
		return dir
	}
	kept := fresh()
	sees := func(want map[string]any) {
		t.Helper()
		var paths []string
		for p := range want {
			paths = append(paths, p)
		}
		// One client existed before, and one is new.
		for _, dir := range []string{kept, fresh()} {
			if got := look(t, server.URL, dir, paths); !reflect.DeepEqual(got, want) {
				t.Fatalf("a standard TUF client finds %v, want %v", got, want)
			}
		}
	}
	want := map[string]any{"agent/1": nil, "agent/deep/er/1": nil, "agent/never": nil, "elsewhere": nil}
	sees(want)
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(add("1")(tx), tx.Add("vendor", "agent/deep/er/1", strings.NewReader("deep"), nil), add("never")(tx))
	})
	sees(want) // the vendor lists them: not enough
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(approve("1")(tx), tx.Approve("review", "agent/deep/er/1", nil))
	})
	want["agent/1"], want["agent/deep/er/1"] = "agent 1", "deep"
	sees(want)

	w.Update(announce)
	w.Update(func(tx *repo.Tx) error { // cut over: only the review keys of root stay
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("timestamp-2"), w.Public("snapshot-2"), w.Public("targets-2")
		r.Parties[0].Keys = w.Public("vendor-3", "vendor-4")
		r.Classes[0].Roles[0].Keys.Keys, r.Classes[0].Roles[1].Keys.Keys = w.Public("vendor-release-2"), w.Public("review-release-2")
		return r.Retire("a")
	})
	sees(want)
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return add("2")(tx) })
	w.Update(approve("2"))
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", "agent/1") })
	want["agent/1"], want["agent/2"] = nil, "agent 2"
	sees(want)

	// There are hash bins at both parties, then a product of the review party with its own
	// keys.
	w.Update(addFiles(0, 600))
	w.Update(approveFiles(0, 599))
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", file(42)) })
	want[file(0)], want[file(598)], want[file(599)], want[file(42)] = "0", "598", nil, nil
	sees(want)
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("review", "agent", repo.Product{Role: "third", Paths: []string{"agent/3/*"}, Keys: repo.Keys{Keys: w.Public("third")}})
	})
	want[file(3)], want[file(4)], want["agent/deep/er/1"] = "3", "4", "deep"
	sees(want)
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", file(3)) })
	want[file(3)] = nil
	sees(want)
}

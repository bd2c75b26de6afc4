package archtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// maxCircle is how many files of a package may refer to each other in a circle.
const maxCircle = 7

// Files of a package have an order: a file refers to declarations of files below it,
// and circles are small. Otherwise a reader of one file has to read all of them.
func TestCirclesOfFiles(t *testing.T) {
	rawtuf.Sequential(t)
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,DepOnly", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	var ours []listedPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p listedPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			ours = append(ours, p)
		}
	}
	if len(ours) < 10 {
		t.Fatalf("only %d packages", len(ours))
	}
	for _, p := range ours {
		largest := largestCircle(t, p, exports)
		t.Logf("%s: %d", p.ImportPath, len(largest))
		if len(largest) > maxCircle {
			t.Errorf("%s: %d files refer to each other in a circle, at most %d: %q", p.ImportPath, len(largest), maxCircle, largest)
		}
	}
}

// listedPackage is what go list reports of a package.
type listedPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool
}

// largestCircle is the largest strongly connected component of a package's files, by
// uses of functions, methods, types, constants and variables of the package.
func largestCircle(t *testing.T, p listedPackage, exports map[string]string) (largest []string) {
	t.Helper()
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	imports := importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
		data, err := os.ReadFile(exports[path])
		return io.NopCloser(bytes.NewReader(data)), err
	})
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, err := (&types.Config{Importer: imports}).Check(p.ImportPath, set, files, info)
	if err != nil {
		t.Fatal(err)
	}
	file := func(p token.Pos) string { return filepath.Base(set.Position(p).Filename) }
	uses := map[string]map[string]bool{}
	for id, o := range info.Uses {
		_, method := o.(*types.Func)
		if o.Pkg() != pkg || !method && o.Parent() != pkg.Scope() {
			continue
		}
		from := file(id.Pos())
		if uses[from] == nil {
			uses[from] = map[string]bool{}
		}
		uses[from][file(o.Pos())] = true
	}
	for _, circle := range components(uses) {
		if len(circle) > len(largest) {
			largest = circle
		}
	}
	return largest
}

// components are the strongly connected components of a graph (Tarjan).
func components(graph map[string]map[string]bool) (out [][]string) {
	index, low, on := map[string]int{}, map[string]int{}, map[string]bool{}
	var stack []string
	var visit func(v string)
	visit = func(v string) {
		index[v] = len(index) + 1
		low[v] = index[v]
		stack, on[v] = append(stack, v), true
		for w := range graph[v] {
			switch {
			case index[w] == 0:
				visit(w)
				low[v] = min(low[v], low[w])
			case on[w]:
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] != index[v] {
			return
		}
		i := slices.Index(stack, v)
		circle := slices.Clone(stack[i:])
		for _, w := range circle {
			on[w] = false
		}
		stack = stack[:i]
		slices.SortFunc(circle, cmp.Compare)
		out = append(out, circle)
	}
	for v := range graph {
		if index[v] == 0 {
			visit(v)
		}
	}
	return out
}

func TestComponents(t *testing.T) {
	to := func(names ...string) map[string]bool {
		out := map[string]bool{}
		for _, n := range names {
			out[n] = true
		}
		return out
	}
	got := components(map[string]map[string]bool{"a": to("b"), "b": to("c", "d"), "c": to("a"), "d": to("e"), "e": to("d", "f")})
	slices.SortFunc(got, func(a, b []string) int { return slices.Compare(a, b) })
	want := [][]string{{"a", "b", "c"}, {"d", "e"}, {"f"}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q, want %q", got, want)
	}
}

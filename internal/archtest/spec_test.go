package archtest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/visum-dev/visum/tuf"
)

const repository = "../.."

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// limitRow is a row of the table of limits in the specification.
type limitRow struct{ name, pkg, value string }

func limitRows(t *testing.T) (rows []limitRow) {
	t.Helper()
	_, rest, ok := strings.Cut(readFile(t, "docs/spec.md"), "<!-- limits -->\n")
	table, _, ok2 := strings.Cut(rest, "<!-- /limits -->")
	if !ok || !ok2 {
		t.Fatal("docs/spec.md has no table of limits")
	}
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			t.Fatalf("a row with %d cells: %s", len(cells)-2, line)
		}
		rows = append(rows, limitRow{strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])})
	}
	return rows
}

// The limits in the specification are those of the code: the defaults of tuf.Limits,
// all of them, and constants by their names.
func TestSpecLimits(t *testing.T) {
	defaults := map[string]int64{}
	v := reflect.ValueOf(tuf.Limits{}.WithDefaults())
	for i := range v.NumField() {
		defaults[v.Type().Field(i).Name] = v.Field(i).Int()
	}
	rows := limitRows(t)
	if len(rows) < 30 {
		t.Fatalf("only %d rows", len(rows))
	}
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row.name] {
			t.Errorf("%s has two rows", row.name)
		}
		seen[row.name] = true
		field, isDefault := strings.CutPrefix(row.name, "Limits.")
		want := ""
		switch {
		case row.name == "Limits.Unlisted":
			charter, plain := unlisted(t)
			want = fmt.Sprintf("%d with a charter, %d without", charter, plain)
		case isDefault:
			want = strconv.FormatInt(defaults[field], 10)
		default:
			want = constantOf(t, row.pkg, row.name)
		}
		if row.value != want {
			t.Errorf("%s is %s in docs/spec.md, %s in package %s", row.name, row.value, want, row.pkg)
		}
	}
	for field := range defaults {
		if !seen["Limits."+field] {
			t.Errorf("docs/spec.md does not have Limits.%s", field)
		}
	}
}

// constantOf returns the value of a constant of a package that is written in
// numbers alone.
func constantOf(t *testing.T, pkg, name string) string {
	t.Helper()
	for _, f := range parsed(t, pkg) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				for i, id := range spec.Names {
					if id.Name == name && i < len(spec.Values) {
						return strconv.FormatInt(evaluated(t, spec.Values[i]), 10)
					}
				}
			}
		}
	}
	t.Errorf("package %s has no constant %s", pkg, name)
	return ""
}

// unlisted returns what tuf takes for Limits.Unlisted where it is 0.
func unlisted(t *testing.T) (charter, plain int64) {
	t.Helper()
	var values []int64
	for _, f := range parsed(t, "tuf") {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "unlisted" {
				ast.Inspect(fn, func(n ast.Node) bool {
					if r, ok := n.(*ast.ReturnStmt); ok {
						if _, isSum := r.Results[0].(*ast.BinaryExpr); isSum {
							values = append(values, evaluated(t, r.Results[0]))
						}
					}
					return true
				})
			}
		}
	}
	if len(values) != 2 {
		t.Fatalf("unlisted returns %d", values)
	}
	return values[0], values[1]
}

func evaluated(t *testing.T, e ast.Expr) int64 {
	t.Helper()
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, types.ExprString(e))
	if err != nil {
		t.Fatal(err)
	}
	n, exact := constant.Int64Val(constant.ToInt(v.Value))
	if !exact {
		t.Fatalf("%s is no integer", types.ExprString(e))
	}
	return n
}

func parsed(t *testing.T, pkg string) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(repository, pkg, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatal(pkg, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

var quantity = regexp.MustCompile(`\b([0-9][0-9,]*)(?:\s+(kB|KiB|MB|MiB))?`)

// The package comment of tuf states the limits too, with the same values, in
// whatever words.
func TestSpecAndPackageComment(t *testing.T) {
	var doc string
	for _, f := range parsed(t, "tuf") {
		if f.Doc != nil && strings.Contains(f.Doc.Text(), "# Limits") {
			doc = f.Doc.Text()
		}
	}
	_, section, ok := strings.Cut(doc, "# Limits")
	if !ok {
		t.Fatal("the package comment of tuf has no section on limits")
	}
	section, _, _ = strings.Cut(section, "\n# ")
	var stated []string
	for _, m := range quantity.FindAllStringSubmatch(section, -1) {
		n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimRight(m[1], ","), ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		switch m[2] {
		case "kB", "KiB":
			n <<= 10
		case "MB", "MiB":
			n <<= 20
		}
		stated = append(stated, strconv.FormatInt(n, 10))
	}
	for _, row := range limitRows(t) {
		switch {
		case row.name == "Limits.Unlisted":
			charter, plain := unlisted(t)
			for _, n := range []int64{charter, plain} {
				if !slices.Contains(stated, strconv.FormatInt(n, 10)) {
					t.Errorf("the package comment of tuf does not state %d for %s", n, row.name)
				}
			}
		case row.pkg != "tuf" || slices.Contains([]string{"MaxVersion", "maxName", "maxSource", "maxNotes", "maxOrgs", "MaxRecoveryStatement"}, row.name):
			// Stated where they belong: Release.Check, RecoveryRule.
		case !slices.Contains(stated, row.value):
			t.Errorf("the package comment of tuf does not state %s for %s", row.value, row.name)
		}
	}
}

var (
	testName = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	rule     = regexp.MustCompile(`(?m)^### (H[0-9]+): `)
	errName  = regexp.MustCompile("`(Err[A-Z][A-Za-z]*)`")
	errVar   = regexp.MustCompile(`(?m)^(?:var|\t)\s*(Err[A-Z][A-Za-z]*)(?: error)?\s+=`)
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
)

// Each hard rule has a section in the specification that names a vector or a test,
// and what the specification names exists. Each vector is named somewhere in it.
func TestSpecNamesItsTests(t *testing.T) {
	spec := readFile(t, "docs/spec.md")
	have := map[string]bool{}
	vectors := 0
	err := filepath.WalkDir(repository, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		switch {
		case strings.HasSuffix(path, "_test.go"):
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range testFunc.FindAllSubmatch(src, -1) {
				have[string(m[1])] = true
			}
		case strings.HasSuffix(path, ".txtar") && !strings.Contains(filepath.ToSlash(path), "/cmd/"): // those are scripts of the tool
			vectors++
			if name := d.Name(); !strings.HasSuffix(name, "-healthy.txtar") && !strings.Contains(spec, "/"+name+")") {
				t.Errorf("docs/spec.md does not name the vector %s", name)
			}
		}
		return nil
	})
	if err != nil || vectors == 0 {
		t.Fatal(vectors, err)
	}
	for _, m := range testName.FindAllStringSubmatch(spec, -1) {
		if !have[m[1]] {
			t.Errorf("docs/spec.md names %s, which does not exist", m[1])
		}
	}
	errs := map[string]bool{}
	for _, pkg := range []string{"tuf", "client", "repo"} {
		names, err := filepath.Glob(filepath.Join(repository, pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range errVar.FindAllSubmatch(src, -1) {
				errs[string(m[1])] = true
			}
		}
	}
	for _, m := range errName.FindAllStringSubmatch(spec, -1) {
		if !errs[m[1]] {
			t.Errorf("docs/spec.md names %s, which no package has", m[1])
		}
	}
	at := rule.FindAllStringSubmatchIndex(spec, -1)
	for i, m := range at {
		if name, want := spec[m[2]:m[3]], fmt.Sprintf("H%d", i+1); name != want {
			t.Errorf("rule %s stands in the place of %s", name, want)
		}
		section, _, _ := strings.Cut(spec[m[1]:], "\n##")
		if !testName.MatchString(section) && !strings.Contains(section, ".txtar)") {
			t.Errorf("%s names neither a vector nor a test", spec[m[2]:m[3]])
		}
	}
	if len(at) != 13 {
		t.Errorf("%d hard rules, want 13", len(at))
	}
	if !strings.Contains(spec, "**Rule Q.**") {
		t.Error("docs/spec.md does not state rule Q")
	}
}

// A link of a document to another file of the repository leads to a file, and
// one to a section leads to a heading.
func TestLinksOfDocuments(t *testing.T) {
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		names = append(names, found...)
	}
	links := 0
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(prose(string(data)), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			path, section, _ := strings.Cut(m[1], "#")
			to := name
			if path != "" {
				to = filepath.Join(filepath.Dir(name), filepath.FromSlash(path))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: a link to %s: %v", name, m[1], err)
				continue
			}
			if section == "" {
				continue
			}
			target, err := os.ReadFile(to)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(anchors(string(target)), section) {
				t.Errorf("%s: a link to %s: there is no such heading", name, m[1])
			}
		}
	}
	if links < 50 {
		t.Fatalf("only %d links", links)
	}
}

// prose is a document without its blocks of code.
func prose(document string) string {
	var out []string
	for i, part := range strings.Split(document, "\n```") {
		if i%2 == 0 {
			out = append(out, part)
		}
	}
	return strings.Join(out, "\n")
}

var inlineCode = regexp.MustCompile("`[^`\n]*`")

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchors are the names of a document's headings, as repository hosts make them.
func anchors(document string) (out []string) {
	for line := range strings.SplitSeq(prose(document), "\n") {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			out = append(out, strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-"))
		}
	}
	return out
}

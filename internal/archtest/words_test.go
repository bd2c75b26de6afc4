package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// refusedWords are words and phrases in whose place the glossary (docs/glossary.md) and
// the TUF specification have a term, or after which a sentence has no clear subject.
var refusedWords = regexp.MustCompile(`(?i)\b(` + strings.Join([]string{
	"thief", "thieves", "anew", "heir", "stray", "strays", "judge", "judges", "judged", "tombstone", "census", "survey", "surveys", "seat", "scraps", "ordinary", "beside",
	"whoever", "nobody", "somebody", "everybody", "anybody", "he", "him", "his", "himself",
	`at\s+hand`, `to\s+be\s+had`, `is\s+had`, `held\s+against`, `stock\s+clients?`, `stock\s+TUF`, `in\s+earnest`, `plain\s+files?`, `the\s+past`, `goes\s+on`, `go\s+on`, `gone\s+on`, `for\s+people`,
}, "|") + `)\b`)

// A TUF engineer who has never seen the project understands every comment, message and
// page: they use the terms of the field.
func TestPlainWords(t *testing.T) {
	rawtuf.Sequential(t)
	out, err := exec.Command("git", "-C", "../..", "ls-files", "*.go", "*.md").Output()
	if err != nil {
		t.Skip("not in a git checkout")
	}
	refuseIn := func(place, text string) {
		if w := refusedWords.FindString(text); w != "" {
			t.Errorf("%s: %q: see docs/glossary.md", place, w)
		}
	}
	n := 0
	for _, name := range strings.Fields(string(out)) {
		file := filepath.Join("../..", name)
		src, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		switch {
		case name == "docs/glossary.md" || name == "internal/archtest/words_test.go": // they name the words
		case name == "CHANGELOG.md": // it names what was renamed
		case strings.HasSuffix(name, ".md"):
			refuseIn(name, string(src))
		default:
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, file, src, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			at := func(p token.Pos) string { return name + ":" + strings.TrimPrefix(set.Position(p).String(), file+":") }
			for _, group := range f.Comments {
				for _, c := range group.List {
					refuseIn(at(c.Pos()), c.Text)
				}
			}
			if strings.HasSuffix(name, "_test.go") {
				continue // their strings are also what attackers write
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Field: // tags are formats
					if n.Tag != nil {
						n.Tag = nil
					}
				case *ast.BasicLit:
					if n.Kind == token.STRING {
						refuseIn(at(n.Pos()), n.Value)
					}
				}
				return true
			})
		}
	}
	if n < 300 {
		t.Fatalf("only %d files", n)
	}
}

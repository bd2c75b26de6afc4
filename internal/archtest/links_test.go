package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docLink is a link in a comment to an exported name of this package or of another.
var docLink = regexp.MustCompile(`\[\*?((?:[a-z]\w*\.)?[A-Z]\w*(?:\.[A-Z]\w*)?)\]`)

// A link in a comment leads to a name that exists.
func TestLinksInComments(t *testing.T) {
	dirs := append([]string{"internal/durable", "internal/wire", "internal/text", "internal/public", "internal/layout", "internal/ctxio", "internal/fingerprint"}, publicPackages...)
	set := token.NewFileSet()
	declared := map[string]map[string]bool{} // by the last element of the path
	files := map[string][]*ast.File{}
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatal(dir, err)
		}
		names := map[string]bool{}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files[dir] = append(files[dir], f)
			declare(f, names)
		}
		declared[filepath.Base(dir)] = names
	}
	for dir, list := range files {
		for _, f := range list {
			for _, group := range f.Comments {
				for _, m := range docLink.FindAllStringSubmatch(group.Text(), -1) {
					pkg, name := filepath.Base(dir), m[1]
					if p, rest, ok := strings.Cut(name, "."); ok && strings.ToLower(p[:1]) == p[:1] {
						pkg, name = p, rest
					}
					if names, ours := declared[pkg]; ours && !names[name] {
						t.Errorf("%s: [%s] does not exist", set.Position(group.Pos()), m[1])
					}
				}
			}
		}
	}
}

// declare adds the names that a file declares, those of methods and fields after their
// type's name.
func declare(f *ast.File, names map[string]bool) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names[d.Name.Name] = true
				continue
			}
			of := d.Recv.List[0].Type
			if p, ok := of.(*ast.StarExpr); ok {
				of = p.X
			}
			if x, ok := of.(*ast.IndexExpr); ok {
				of = x.X
			}
			names[of.(*ast.Ident).Name+"."+d.Name.Name] = true
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names[n.Name] = true
					}
				case *ast.TypeSpec:
					names[s.Name.Name] = true
					var fields *ast.FieldList
					switch t := s.Type.(type) {
					case *ast.StructType:
						fields = t.Fields
					case *ast.InterfaceType:
						fields = t.Methods
					}
					if fields == nil {
						continue
					}
					for _, field := range fields.List {
						for _, n := range field.Names {
							names[s.Name.Name+"."+n.Name] = true
						}
					}
				}
			}
		}
	}
}

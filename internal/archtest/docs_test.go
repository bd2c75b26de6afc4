package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// publicPackages are those that other programs import.
var publicPackages = []string{"client", "client/sourcetest", "client/storetest", "repo", "repo/charter", "repo/cosign", "repo/diff", "repo/exchange", "repo/keys", "repo/keys/awskms", "repo/keys/exec", "repo/keys/hashivault", "repo/keys/keystest", "repo/keys/pkcs11", "repo/mirror", "repo/signing", "repo/storage", "repo/storage/git", "repo/storage/s3", "repo/storage/storagetest", "repo/signing/ledgertest",
	"repo/logtest", "repo/relocate", "repo/drill", "repo/tiles", "repo/witness", "tuf", "tuf/attestation", "tuf/gotuf", "tuf/receipt", "tuf/tlog"}

// What a package that others import offers, it explains: every exported type,
// function, method, constant, variable and field.
func TestExportedIsDocumented(t *testing.T) {
	for _, dir := range publicPackages {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, file, src, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range silent(f) {
				t.Errorf("%s: %s has no comment", file, name)
			}
			for _, name := range misnamed(f) {
				t.Errorf("%s: the comment of %s names something else", file, name)
			}
		}
	}
}

// misnamed names functions, types and errors whose comment begins with another name, as
// after a renaming.
func misnamed(f *ast.File) (out []string) {
	begins := func(name string, doc *ast.CommentGroup) {
		first, _, _ := strings.Cut(strings.NewReplacer(":", " ", ",", " ", "\n", " ").Replace(doc.Text()), " ")
		if first != "" && first != name && first != "A" && first != "An" && first != "The" {
			out = append(out, name)
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() {
				begins(d.Name.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					if strings.HasPrefix(s.Names[0].Name, "Err") {
						begins(s.Names[0].Name, s.Doc)
					}
				case *ast.TypeSpec:
					if s.Name.IsExported() && len(d.Specs) == 1 {
						begins(s.Name.Name, d.Doc)
					}
				}
			}
		}
	}
	return out
}

// silent names what is exported without a comment of its own.
func silent(f *ast.File) (out []string) {
	says := func(groups ...*ast.CommentGroup) bool {
		for _, g := range groups {
			if g.Text() != "" {
				return true
			}
		}
		return false
	}
	missing := func(name string, groups ...*ast.CommentGroup) {
		if ast.IsExported(name[strings.LastIndex(name, ".")+1:]) && !says(groups...) {
			out = append(out, name)
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				of := d.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				if id, ok := of.(*ast.Ident); !ok || !id.IsExported() {
					continue
				}
			}
			missing(name, d.Doc)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					if len(d.Specs) == 1 {
						missing(s.Names[0].Name, s.Doc, s.Comment, d.Doc)
					} else {
						missing(s.Names[0].Name, s.Doc, s.Comment)
					}
				case *ast.TypeSpec:
					missing(s.Name.Name, s.Doc, s.Comment, d.Doc)
					if st, ok := s.Type.(*ast.StructType); ok && s.Name.IsExported() {
						for _, field := range st.Fields.List {
							if len(field.Names) > 0 {
								missing(s.Name.Name+"."+field.Names[0].Name, field.Doc, field.Comment)
							}
						}
					}
					if it, ok := s.Type.(*ast.InterfaceType); ok && s.Name.IsExported() {
						for _, m := range it.Methods.List {
							if len(m.Names) > 0 {
								missing(s.Name.Name+"."+m.Names[0].Name, m.Doc, m.Comment)
							}
						}
					}
				}
			}
		}
	}
	return out
}

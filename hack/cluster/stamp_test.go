package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStamp(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := writeFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func(words ...string) string {
		t.Helper()
		stamp, err := stampOf(root, words, []string{filepath.Join(root, "src")})
		if err != nil {
			t.Fatal(err)
		}
		return stamp
	}
	write("src/go.mod", "module x")
	write("src/main.go", "package main")
	original := stamp("go1.26")
	if stamp("go1.26") != original {
		t.Error("the stamp changes by itself")
	}
	if stamp("go1.27") == original || stamp("go1.26", "") == original || stamp("go1", ".26") == original {
		t.Error("other words give the same stamp")
	}
	write("src/main_test.go", "package main")
	if stamp("go1.26") != original {
		t.Error("a test changes the stamp")
	}
	for name, change := range map[string]func(){
		"content":  func() { write("src/go.mod", "module y") },
		"new file": func() { write("src/pause/main.go", "package main") },
		"moved": func() {
			if err := os.Rename(filepath.Join(root, "src/main.go"), filepath.Join(root, "src/other.go")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		before := stamp("go1.26")
		change()
		if stamp("go1.26") == before {
			t.Errorf("%s: the stamp stays", name)
		}
	}
}

func TestFresh(t *testing.T) {
	dir := t.TempDir()
	stampFile, output := filepath.Join(dir, "stamp"), filepath.Join(dir, "program")
	check := func(want bool, why string) {
		t.Helper()
		if done, err := fresh(stampFile, "a\n", []string{output}); err != nil || done != want {
			t.Errorf("%s: fresh is %v, %v", why, done, err)
		}
	}
	check(false, "nothing built")
	if err := os.WriteFile(stampFile, []byte("a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(false, "the program is gone")
	if err := os.WriteFile(output, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	check(true, "all is there")
	if err := os.WriteFile(stampFile, []byte("b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(false, "built from something else")
}

func TestRequiredVersion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "go.mod")
	content := "module x\n\nrequire k8s.io/kubernetes v1.37.1\n\nrequire (\n\tk8s.io/api v0.37.1 // indirect\n)\n\nreplace k8s.io/cri-api => k8s.io/cri-api v0.37.0\n"
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{"k8s.io/kubernetes": "v1.37.1", "k8s.io/api": "v0.37.1", "k8s.io/cri-api": ""} {
		if got, err := requiredVersion(file, module); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", module, got, err)
		}
	}
}

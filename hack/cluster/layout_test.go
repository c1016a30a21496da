package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNodeDirKeepsSocketsShort(t *testing.T) {
	for name, test := range map[string]struct {
		dir   string
		apart bool
	}{
		"short": {"/src/modelrights/_output/cluster", false},
		"home":  {"/home/alice/src/github.com/modelrights/modelrights/_output/cluster", true},
		"long":  {"/home/" + strings.Repeat("deep/", 20) + "_output/cluster", true},
	} {
		t.Run(name, func(t *testing.T) {
			layout := newLayout("/src", test.dir)
			if apart := layout.NodeDir != layout.Dir; apart != test.apart {
				t.Errorf("NodeDir is %s", layout.NodeDir)
			}
			if length := len(layout.NodeDir + longestSocket); length > socketLimit {
				t.Errorf("a socket's path has %d bytes", length)
			}
		})
	}
}

func TestDirectoriesHaveNamesOfTheirOwn(t *testing.T) {
	a, b := newLayout("/src", "/a"), newLayout("/src", "/b")
	if a.tag() == b.tag() || a.CNINetwork() == b.CNINetwork() || a.ClaimsCopy() == b.ClaimsCopy() {
		t.Error("two directories share a name on the machine")
	}
	if a.tag() != newLayout("/elsewhere", "/a").tag() {
		t.Error("one directory has two names")
	}
}

func TestFindRoot(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(root, "internal", "images")
	for _, dir := range []string{deep, filepath.Join(root, "hack", "cluster", "components")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := findRoot(deep); err != nil || found != root {
		t.Errorf("found %q, %v; want %q", found, err, root)
	}
	if _, err := findRoot(t.TempDir()); err == nil {
		t.Error("a directory outside the repository has a root")
	}
}

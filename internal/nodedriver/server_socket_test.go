package nodedriver

import (
	"os"
	"path/filepath"
	"testing"
)

// A driver that is force-deleted goes on for a while beside its successor. When it ends, the successor's sockets stay.
func TestSocketRemovesOnlyItsOwnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	old, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	successor, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	old.remove()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the successor's socket went with its predecessor: %v", err)
	}
	if err := successor.Close(); err != nil {
		t.Fatal(err)
	}
	successor.remove()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Fatalf("the socket stays behind its driver: %v", err)
	}
}

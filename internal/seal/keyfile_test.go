package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadKeys(t *testing.T) {
	one, two := newKey(t), newKey(t)
	for name, c := range map[string]struct {
		text string
		keys int
	}{
		"one":                      {one.String(), 1},
		"one, with a newline":      {one.String() + "\n", 1},
		"two, for a rollover":      {one.String() + "\n" + two.String() + "\n", 2},
		"with comments and spaces": {"# created 2026\n\n" + one.String() + "\n\n", 1},
		"empty":                    {"", 0},
		"a comment alone":          {"# nothing\n", 0},
		"garbage":                  {"hunter2-hunter2\n", 0},
		"a key cut off":            {one.String()[:40], 0},
		"a key, then garbage":      {one.String() + "\nhunter2\n", 0},
		"endless":                  {strings.Repeat("#\n", maxKeyFile), 0},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := ReadKeys(strings.NewReader(c.text))
			if len(keys) != c.keys || (err == nil) != (c.keys > 0) {
				t.Fatalf("got %d keys and error %v, want %d keys", len(keys), err, c.keys)
			}
			if err == nil {
				return
			}
			if !errors.Is(err, ErrNoKey) {
				t.Errorf("error is not ErrNoKey: %v", err)
			}
			for _, secret := range []string{one.String()[20:30], "hunter2"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error quotes the key file: %v", err)
				}
			}
		})
	}
}

// TestRollover opens files of the old key and of the new one with the same key file.
func TestRollover(t *testing.T) {
	before, after := newKey(t), newKey(t)
	keys, err := ReadKeys(strings.NewReader(before.String() + "\n" + after.String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string][]byte{
		"old": sealedBytes(t, []byte("weights"), before.Recipient()),
		"new": sealedBytes(t, []byte("weights"), after.Recipient()),
	} {
		if got, err := Load(bytes.NewReader(sealed), int64(len(sealed)), keys...); err != nil || string(got) != "weights" {
			t.Errorf("file of the %s key: got %q, %v", name, got, err)
		}
	}
}

func TestLoadKeys(t *testing.T) {
	dir := t.TempDir()
	write := func(text string, path ...string) {
		t.Helper()
		file := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	write(newKey(t).String(), "many", "acme", "key")
	write(newKey(t).String()+"\n"+newKey(t).String(), "many", "other", "key")
	write("x", "many", "no-licence", "file")
	write("x", "none", "file")
	write("secret-but-wrong", "bad", "acme", "key")
	for name, c := range map[string]struct {
		path, message string
		keys          int
	}{
		"a file":                  {"many/acme/key", "", 1},
		"a directory of licences": {"many", "", 3},
		"nothing there":           {"missing", "no such file", 0},
		"a directory without key": {"none", "no usable key", 0},
		"a file that is no key":   {"bad", "acme/key", 0},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := LoadKeys(filepath.Join(dir, c.path))
			if len(keys) != c.keys || (err == nil) != (c.message == "") {
				t.Fatalf("got %d keys and error %v, want %d keys", len(keys), err, c.keys)
			}
			if err != nil && (!strings.Contains(err.Error(), c.message) || strings.Contains(err.Error(), "secret-but")) {
				t.Errorf("error %v: want %q in it, and nothing of the file", err, c.message)
			}
		})
	}
}

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLookAroundTellsNothingOfTheKey(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"var/run/modelrights/acme/key": "secret",
		"proc/mounts":                  "tmpfs /var/run/modelrights/acme tmpfs ro,nodev 0 0\ntmpfs /tmp tmpfs rw 0 0\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(keyFileVariable, "/var/run/modelrights/acme/key")
	facts := LookAround(root)
	sum := sha256.Sum256([]byte("secret"))
	if len(facts.Files) != 1 || facts.Files[0].SHA256 != hex.EncodeToString(sum[:]) || facts.Files[0].Mode != "-r--r-----" {
		t.Errorf("files: %+v", facts.Files)
	}
	if len(facts.Mounts) != 1 || len(facts.Writable) != 2 || facts.KeyFile == "" {
		t.Errorf("got %+v", facts)
	}
	if text, err := json.Marshal(facts); err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the facts hold the key: %s, %v", text, err)
	}
}

// TestAttackNoticesSuccess makes sure that the attacker would notice a key, were he given one.
func TestAttackNoticesSuccess(t *testing.T) {
	tokens := t.TempDir()
	for _, name := range []string{"pod", "driver", "api"} {
		if err := os.WriteFile(filepath.Join(tokens, name), []byte(name+".A\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer driver.A" {
			_, _ = w.Write([]byte(`{"files":{"key":"c2VjcmV0"}}`))
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"reason":"NotNodeDriver","message":"no"}`))
	}))
	defer server.Close()
	outcomes := Attack(t.Context(), Target{URL: server.URL, Tokens: tokens, License: "acme"})
	if got := outcomes["own token of the driver's audience"]; got.Status != http.StatusOK || got.Files != 1 {
		t.Errorf("a success was not noticed: %+v", got)
	}
	for _, name := range []string{"no token at all", "own pod token as bearer and pod", "forged token"} {
		if got := outcomes[name]; got.Status != http.StatusForbidden || got.Reason != "NotNodeDriver" || got.Files != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

package chart

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"modelrights.dev/modelrights/internal/images"
)

// refusedRepositories asks helm which of the repositories the schema refuses, by index.
func refusedRepositories(t *testing.T, repositories []string) map[int]bool {
	t.Helper()
	value, err := json.Marshal(repositories)
	if err != nil {
		t.Fatal(err)
	}
	_, err = template(t, "--set-json", "governedRepositories="+string(value))
	if err == nil {
		return nil
	}
	refused := map[int]bool{}
	for _, match := range regexp.MustCompile(`at '/governedRepositories/(\d+)'`).FindAllStringSubmatch(err.Error(), -1) {
		var i int
		if _, err := fmt.Sscan(match[1], &i); err != nil {
			t.Fatal(err)
		}
		refused[i] = true
	}
	if len(refused) == 0 {
		t.Fatalf("helm refuses something else than the schema does: %v", err)
	}
	return refused
}

// TestGovernedRepositories: the schema accepts what the operator can parse, and that alone. An operator that is started
// with a pattern that it refuses never gets ready, while its webhooks stop every pod.
func TestGovernedRepositories(t *testing.T) {
	repositories := []string{
		"registry.example.com/models/chat", "registry.example.com/models/**", "registry.example.com/**", "registry.example.com/*",
		"registry.example.com/*/chat", "registry.example.com/**/chat/**", "registry.example.com/**/**", "registry.example.com/a/**/*/b/**/c",
		"localhost/m", "localhost:5000/m", "registry:5000/m", "10.0.0.1/m", "10.0.0.1:5000/m", "127.0.0.1:17500/m",
		"[2001:db8::1]:5000/m", "[::1]/m", "[:::]/m", "registry.example.com:443/a__b/c_d/e---f.g", "docker.io/acme/chat", "docker.io/*",
		"docker.io/busybox", "index.docker.io/busybox", "a.b/c", "a--b.c/d", "0.1/2", "a.b:0/c", "sha256.example.com/c", "sha1:5/c",

		"-foo.example.com/x", "foo-.example.com/x", "foo.-example.com/x", "foo.example-.com/x", "-foo:5000/x", "foo-:5000/x", "-/x", "-:1/x",
		"a..b/c", ".a.b/c", "a.b./c", "a.b:/c", "a.b:x/c", "a.b:-1/c", "registry/m", "a.b", "a.b/", "/a.b/c", "a.b//c", "a.b/c/",
		"a.b/-c", "a.b/c-", "a.b/.c", "a.b/c.", "a.b/c___d", "a.b/c._d", "a.b/c..d", "a.b/***", "a.b/c*", "a.b/*c", "a.b/c:d", "a.b/c d", "a.b/C",
		"a.b/../c", "a.b/é", "é.b/c", "*/c", "**/c", "*.b/c", "a.b/**/**/**", "a.b/**/c/**/d/**", "a.b/c@d", "a.b/c\n", "\na.b/c",
		"sha256:0123/c", "sha384:0123/c", "sha512:0123/c", "[::1/c", "::1/c", "[]/c", "[::1]:/c", "[g::1]/c", "https://a.b/c", "a_b.c/d",
		"a.b/" + strings.Repeat("c", 300),
	}
	refused := refusedRepositories(t, repositories)
	accepted := 0
	for i, repository := range repositories {
		_, err := images.ParsePattern(repository)
		if refused[i] != (err != nil) {
			t.Errorf("%q: refused by the schema: %t; the operator says: %v", repository, refused[i], err)
		}
		if !refused[i] {
			accepted++
		}
	}
	if accepted < 20 || len(refused) < 20 {
		t.Errorf("%d accepted and %d refused: the table says nothing", accepted, len(refused))
	}
}

// TestGovernedRepositoriesInCapitals: the operator would write hosts in lower case; the schema asks for it, as licences do.
func TestGovernedRepositoriesInCapitals(t *testing.T) {
	if refused := refusedRepositories(t, []string{"Registry.Example.com/models"}); !refused[0] {
		t.Error("a host in capitals is accepted")
	}
}

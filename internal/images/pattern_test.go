package images

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPatternMatches(t *testing.T) {
	tests := map[string]struct {
		pattern string
		yes, no []string
	}{
		"literal": {"registry.example.com/models/chat",
			[]string{"registry.example.com/models/chat", "Registry.Example.Com:443/models/chat:v1"},
			[]string{
				"registry.example.com/models/chat-7b", "registry.example.com/models/chat/7b", "registry.example.com/models",
				"registry.example.com:5000/models/chat", "registry.example.com.evil.example/models/chat",
				"evil.example/registry.example.com/models/chat", "models/chat",
			}},
		"one component": {"registry.example.com/models/*",
			[]string{"registry.example.com/models/chat", "registry.example.com/models/x"},
			[]string{"registry.example.com/models", "registry.example.com/models/a/b", "registry.example.com/model/a", "registry.example.com/models-x/a"}},
		"one component amid": {"registry.example.com/*/chat",
			[]string{"registry.example.com/acme/chat"},
			[]string{"registry.example.com/chat", "registry.example.com/a/b/chat", "registry.example.com/acme/chat2"}},
		"any number": {"registry.example.com/models/**",
			[]string{"registry.example.com/models", "registry.example.com/models/a", "registry.example.com/models/a/b/c"},
			[]string{"registry.example.com/modelsx", "registry.example.com/other/models/a"}},
		"any number amid": {"registry.example.com/**/chat",
			[]string{"registry.example.com/chat", "registry.example.com/a/chat", "registry.example.com/a/b/chat", "registry.example.com/chat/chat"},
			[]string{"registry.example.com/chat/a", "registry.example.com/a/chatx"}},
		"any number twice": {"registry.example.com/**/models/**",
			[]string{"registry.example.com/models", "registry.example.com/a/models/b", "registry.example.com/models/models"},
			[]string{"registry.example.com/a/b"}},
		"a whole registry": {"registry.example.com/**",
			[]string{"registry.example.com/a", "registry.example.com/a/b"},
			[]string{"registry.example.org/a", "registry.example.com:5000/a"}},
		"host in upper case, port 443": {"Registry.Example.com:443/m",
			[]string{"registry.example.com/m"}, []string{"registry.example.com:8443/m"}},
		"Docker Hub's library":        {"docker.io/busybox", []string{"busybox", "index.docker.io/library/busybox"}, []string{"acme/busybox"}},
		"all of Docker Hub's library": {"docker.io/*", []string{"busybox", "docker.io/library/redis:7"}, []string{"acme/busybox"}},
		"all of Docker Hub":           {"index.docker.io/**", []string{"busybox", "acme/chat"}, []string{"quay.io/acme/chat"}},
		"Docker Hub's user":           {"docker.io/acme/*", []string{"acme/chat"}, []string{"acme2/chat"}},
		"IPv6 address":                {"[2001:db8::1]:5000/m", []string{"[2001:db8:0::1]:5000/m"}, []string{"[2001:db8::2]:5000/m"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pattern, err := ParsePattern(test.pattern)
			if err != nil {
				t.Fatal(err)
			}
			index := Index[string]{}.With(pattern, test.pattern)
			check := func(raw string, want bool) {
				ref, err := Parse(raw)
				if err != nil {
					t.Fatal(err)
				}
				if got := pattern.Matches(ref.Repository); got != want {
					t.Errorf("%s matches %s: %t, want %t", test.pattern, raw, got, want)
				}
				if got := len(index.Lookup(ref.Repository, nil)) > 0; got != want {
					t.Errorf("%s is found for %s: %t, want %t", test.pattern, raw, got, want)
				}
			}
			for _, raw := range test.yes {
				check(raw, true)
			}
			for _, raw := range test.no {
				check(raw, false)
			}
		})
	}
	if (Pattern{}).Matches("registry.example.com/m") {
		t.Error("the empty pattern matches")
	}
}

func TestParsePatternRefuses(t *testing.T) {
	tests := map[string]struct{ pattern, want string }{
		"nothing":                   {"", "no registry host"},
		"no path":                   {"registry.example.com", "no registry host"},
		"short name":                {"models/chat", "no registry host"},
		"wildcard host":             {"*.example.com/models", "wildcard in its host"},
		"wildcard for the host":     {"**/models", "wildcard in its host"},
		"empty component":           {"registry.example.com//m", "empty path component"},
		"empty last component":      {"registry.example.com/m/", "empty path component"},
		"wildcard within component": {"registry.example.com/chat-*", "wildcard within a path component"},
		"three stars":               {"registry.example.com/***", "wildcard within a path component"},
		"many any-number":           {"registry.example.com/**/a/**/b/**", "more than 2 components **"},
		"path in upper case":        {"registry.example.com/Models/chat", "matches no image"},
		"tag":                       {"registry.example.com/models/chat:v1", "holds a tag"},
		"digest":                    {"registry.example.com/m@sha256:" + hex64, "holds a tag or a digest"},
		"image's ID":                {"sha256:0123/**", "matches no image"},
		"scheme":                    {"https://registry.example.com/m", "empty path component"},
		"space":                     {"registry.example.com/a b", "matches no image"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePattern(test.pattern)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ParsePattern(%q) = %v, %v; want an error about %q", test.pattern, p, err, test.want)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	patterns := []string{
		"registry.example.com/models/chat", "registry.example.com/models/*", "registry.example.com/**",
		"registry.example.com/**/chat", "registry.example.com/**/models/**", "quay.io/models/chat", "docker.io/**",
	}
	parse := func(s string) Pattern {
		p, err := ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var grown Index[string]
	for _, p := range patterns {
		grown = grown.With(parse(p), p)
	}
	built := NewIndex(func(add func(Pattern, string)) {
		for _, p := range patterns {
			add(parse(p), p)
		}
	})
	for _, repository := range []string{
		"registry.example.com/models/chat", "registry.example.com/a", "registry.example.com/a/models/chat", "quay.io/models/chat",
		"docker.io/library/busybox", "other.example.com/models/chat",
	} {
		var want []string
		for _, p := range patterns {
			if parse(p).Matches(repository) {
				want = append(want, p)
			}
		}
		slices.Sort(want)
		for name, index := range map[string]Index[string]{"grown": grown, "built": built} {
			got := index.Lookup(repository, nil)
			slices.Sort(got)
			got = slices.Compact(got)
			if !slices.Equal(got, want) {
				t.Errorf("the %s index finds %v for %s, want %v", name, got, repository, want)
			}
		}
	}

	t.Run("is immutable", func(t *testing.T) {
		before := fmt.Sprint(grown.Lookup("registry.example.com/models/chat", nil))
		grown.With(parse("registry.example.com/models/chat"), "another")
		grown.Without(parse("registry.example.com/models/chat"), patterns[0])
		if after := fmt.Sprint(grown.Lookup("registry.example.com/models/chat", nil)); after != before {
			t.Errorf("found %s before and %s after", before, after)
		}
	})
	t.Run("is empty when all is taken out", func(t *testing.T) {
		index := grown
		for _, p := range patterns {
			index = index.Without(parse(p), "a value that it does not hold")
		}
		if index.Empty() {
			t.Error("taking out what is not there emptied the index")
		}
		for _, p := range patterns {
			index = index.Without(parse(p), p).Without(parse(p), p)
		}
		if !index.Empty() {
			t.Error("the index is not empty")
		}
	})
}

// FuzzIndex compares the index with matching pattern by pattern.
func FuzzIndex(f *testing.F) {
	f.Add("registry.example.com/**/chat", "registry.example.com/models/*", "registry.example.com/models/chat:v1")
	f.Add("a.b/**/c/**", "a.b/*/*", "a.b/c/c")
	f.Add("docker.io/*", "docker.io/**", "busybox")
	f.Fuzz(func(t *testing.T, first, second, image string) {
		var index Index[int]
		var patterns []Pattern
		for i, raw := range []string{first, second} {
			p, err := ParsePattern(raw)
			if err != nil {
				return
			}
			patterns = append(patterns, p)
			index = index.With(p, i)
		}
		ref, err := Parse(image)
		if err != nil {
			return
		}
		found := index.Lookup(ref.Repository, nil)
		for i, p := range patterns {
			if slices.Contains(found, i) != p.Matches(ref.Repository) {
				t.Fatalf("index finds %v for %s; pattern %v matches: %t", found, ref.Repository, p, p.Matches(ref.Repository))
			}
		}
		if !index.Without(patterns[0], 0).Without(patterns[1], 1).Empty() {
			t.Fatal("the index does not empty")
		}
	})
}

package prefilter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/images"
)

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// filterFor is the filter for patterns, which must be ones.
func filterFor(t testing.TB, patterns ...string) Filter {
	t.Helper()
	parsed := make([]images.Pattern, len(patterns))
	for i, raw := range patterns {
		p, err := images.ParsePattern(raw)
		if err != nil {
			t.Fatal(err)
		}
		parsed[i] = p
	}
	return New(slices.Values(parsed))
}

func TestMatchesImage(t *testing.T) {
	const plain = "quay.io/acme/web:1"
	tests := map[string]struct {
		patterns []string
		yes, no  []string
	}{
		"nothing governed": {nil, nil, []string{plain, "sha256:01ab", hex64, "Not/A/Reference", "registry.example.com/models/chat"}},
		"a repository": {
			[]string{"registry.example.com/models/chat"},
			[]string{
				"registry.example.com/models/chat", "registry.example.com/models/chat:2.1", "registry.example.com/models/chat@sha256:" + hex64,
				"registry.example.com/models/chat:2.1@sha256:" + hex64, "REGISTRY.Example.com:443/models/chat:1", "registry.example.com:0443/models/chat",
				"sha256:01ab", "sha256:" + hex64, "sha512:ab", hex64, "registry.example.com/Models/Chat", "registry.example.com/models/chat ",
				// Not governed, but of the same path: hosts have many spellings.
				"mirror.example.org/models/chat:1", "mirror.example.org/cache/models/chat:1",
				// Nor these, but IPv6 addresses have more spellings than an expression can hold.
				"[2001:db8::1]:5000/web", "[0]/web",
			},
			[]string{
				plain, "nginx", "nginx:1.25", "registry.example.com/models/chat-7b", "registry.example.com/models/chat7b", "registry.example.com/models/chat.7b",
				"registry.example.com/models/chat_7b", "registry.example.com/models", "registry.example.com/othermodels/chat", "registry.example.com/x-models/chat",
				"registry.example.com:5000/tools/shell:chat", "registry.k8s.io/pause:3.10", "localhost:5000/web@sha256:" + hex64,
				"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/web:v1.2.3_4-5", "LOCALHOST/web",
			},
		},
		"a path below another": {
			[]string{"registry.example.com/models/chat", "registry.example.com/models/**"},
			[]string{"registry.example.com/models", "registry.example.com/models/any/thing:1"}, []string{plain, "registry.example.com/model/chat"},
		},
		"a wildcard amid": {
			[]string{"registry.example.com/models/*/chat"}, []string{"registry.example.com/models/a/chat"}, []string{plain, "registry.example.com/web/chat"},
		},
		"a dot": {[]string{"registry.example.com/a.b/c"}, []string{"registry.example.com/a.b/c"}, []string{"registry.example.com/axb/c"}},
		"a whole registry": {
			[]string{"registry.example.com/**"},
			[]string{"registry.example.com/a", "Registry.EXAMPLE.com:443/a/b:1", "registry.example.com:00443/a"},
			[]string{plain, "registry.example.com:5000/a", "registryxexample.com/a", "mirror.example.org/registry.example.com/a", "nginx"},
		},
		"a whole registry with a port": {
			[]string{"registry.example.com:5000/*/chat"}, []string{"registry.example.com:05000/a/chat", "Registry.example.com:5000/a/chat"},
			[]string{plain, "registry.example.com/a/chat", "registry.example.com:5001/a/chat"},
		},
		"a whole registry by its IPv6 address": {
			[]string{"[2001:db8::1]:5000/**"}, []string{"[2001:db8:0::1]:5000/a", "[2001:DB8::1]:05000/a"}, []string{plain, "10.0.0.1:5000/a"},
		},
		"a whole registry by its IPv4 address": {
			[]string{"10.0.0.1/**"}, []string{"10.0.0.1:443/a", "[::ffff:a00:1]/a"}, []string{plain, "10.0.0.11/a", "10x0.0.1/a"},
		},
		"Docker Hub's library": {
			[]string{"docker.io/busybox"},
			[]string{"busybox", "busybox:1.36", "library/busybox", "docker.io/busybox", "index.docker.io/library/busybox@sha256:" + hex64, "docker.io:443/library/busybox"},
			[]string{plain, "nginx", "docker.io/library/nginx", "busybox-extras"},
		},
		"Docker Hub's user": {[]string{"docker.io/acme/chat"}, []string{"acme/chat:1", "registry-1.docker.io/acme/chat"}, []string{"acme/web", "chat"}},
		"all of Docker Hub": {
			[]string{"docker.io/**"},
			[]string{"nginx", "acme/web:1", "docker.io/acme/web", "Index.docker.io:0443/acme/web", "registry.hub.docker.com/acme/web", "registry-1.docker.io/nginx"},
			[]string{plain, "localhost:5000/acme/web", "registry.k8s.io/pause", "LOCALHOST/web"},
		},
		"all of Docker Hub's library": {[]string{"docker.io/*"}, []string{"nginx", "library/nginx", "docker.io/library/nginx"}, []string{plain}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := filterFor(t, tc.patterns...)
			for _, image := range tc.yes {
				if !f.MatchesImage(image) {
					t.Errorf("%q passes %s", image, f.images())
				}
			}
			for _, image := range tc.no {
				if f.MatchesImage(image) {
					t.Errorf("%q matches %s", image, f.images())
				}
			}
		})
	}
}

// TestOrder: the same patterns make the same filter, in whatever order they come.
func TestOrder(t *testing.T) {
	var patterns []string
	for i := range 300 {
		patterns = append(patterns, fmt.Sprintf("registry-%d.example.com/team-%d/models/model-%d", i%3, i%40, i), fmt.Sprintf("docker.io/m%d", i%7))
	}
	want := filterFor(t, patterns...).Expression()
	for range 10 {
		rand.Shuffle(len(patterns), func(i, j int) { patterns[i], patterns[j] = patterns[j], patterns[i] })
		if got := filterFor(t, patterns...).Expression(); got != want {
			t.Fatalf("another order makes\n%s\nand not\n%s", got, want)
		}
	}
}

func TestCollapse(t *testing.T) {
	many := func(n int, format string) []string {
		patterns := make([]string, n)
		for i := range patterns {
			patterns[i] = fmt.Sprintf(format, i)
		}
		return patterns
	}
	tests := map[string]struct {
		patterns     []string
		alternatives int
		coarse       bool
		matches      []string // besides the patterns
		passes       []string
	}{
		"few": {many(3, "a.example/models/m%d"), 3, false, nil, []string{"a.example/models/m7"}},
		"as many as there may be": {
			many(64, "a.example/models/m%d"), 64, false, nil, []string{"a.example/models/m64", "a.example/web"},
		},
		"one more": {many(65, "a.example/models/m%d"), 1, true, []string{"a.example/models/m99"}, []string{"a.example/web"}},
		"the directory with most of them goes first": {
			slices.Concat(many(60, "a.example/models/m%d"), many(20, "a.example/acme/m%d"), []string{"a.example/models/x/y/z"}),
			21, true, []string{"a.example/models/other"}, []string{"a.example/acme/m20", "a.example/acme"},
		},
		"the deeper of two goes first": {
			slices.Concat(many(33, "a.example/models/m%d"), many(33, "a.example/acme/models/m%d")),
			34, true, []string{"a.example/acme/models/m99"}, []string{"a.example/models/m99", "a.example/acme/web"},
		},
		"first components alone": {
			append(many(100, "a.example/m%d"), "b.example/chat"), 2, true, []string{"A.example:443/any"}, []string{"b.example/web", "web"},
		},
		"hosts in common": {
			slices.Concat(many(65, "a.example/m%d"), many(65, "b.example/m%d")), 2, true, []string{"b.example/any"}, []string{"c.example/m1"},
		},
		"many hosts": {many(65, "r%d.example/**"), 0, true, []string{"c.example/web", "web"}, nil},
		"paths of whole registries are left out": {
			append(many(100, "a.example/m%d"), "a.example/**"), 1, false, []string{"a.example/any"}, []string{"b.example/m1"},
		},
		"long ones": {
			many(40, "a.example/"+strings.Repeat("x", 60)+"%d/chat"), 1, true, []string{"a.example/any"}, []string{"b.example/" + strings.Repeat("x", 60) + "1/chat"},
		},
		"one directory's name in common": {
			many(40, "a.example/"+strings.Repeat("x", 60)+"/%d"), 40, false, nil, []string{"a.example/" + strings.Repeat("x", 60) + "/41"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := filterFor(t, tc.patterns...)
			if got := f.Alternatives(); got != tc.alternatives || f.Coarse() != tc.coarse {
				t.Errorf("%d alternatives, coarse: %t; want %d, %t: %s", got, f.Coarse(), tc.alternatives, tc.coarse, f.images())
			}
			if len(f.images()) > maxLength {
				t.Errorf("the regular expression has %d characters", len(f.images()))
			}
			for _, raw := range tc.patterns {
				p, _ := images.ParsePattern(raw)
				if !f.Covers(p) {
					t.Errorf("does not cover %s", raw)
				}
				if image := strings.TrimSuffix(raw, "/**"); image != "a.example" && strings.Contains(image, "/") && !f.MatchesImage(image+":1") {
					t.Errorf("%s passes", image)
				}
			}
			for _, image := range tc.matches {
				if !f.MatchesImage(image) {
					t.Errorf("%s passes %s", image, f.images())
				}
			}
			for _, image := range tc.passes {
				if f.MatchesImage(image) {
					t.Errorf("%s matches %s", image, f.images())
				}
			}
		})
	}
}

func TestCovers(t *testing.T) {
	f := filterFor(t, "a.example/models/*", "b.example/**", "docker.io/library/busybox")
	for raw, want := range map[string]bool{
		"a.example/models/chat": true, "a.example/models/**": true, "c.example/models/chat": true, "a.example/model": false, "a.example/**": false,
		"b.example/any": true, "b.example:5000/any": false, "docker.io/busybox": true, "docker.io/acme/busybox": false,
	} {
		p, err := images.ParsePattern(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Covers(p); got != want {
			t.Errorf("covers %s: %t, want %t", raw, got, want)
		}
	}
	if (Filter{}).Covers(images.Pattern{"a.example", "m"}) {
		t.Error("a filter of nothing covers")
	}
}

// BenchmarkNew makes the filter of ten thousand licences.
func BenchmarkNew(b *testing.B) {
	parsed := make([]images.Pattern, 10_000)
	for i := range parsed {
		parsed[i], _ = images.ParsePattern(fmt.Sprintf("registry-%d.example.com/team-%d/models/model-%d", i%20, i%300, i))
	}
	for b.Loop() {
		if New(slices.Values(parsed)).Expression() == "" {
			b.Fatal("no expression")
		}
	}
}

// FuzzSuperset holds the filter to be a superset of what is governed, and to have a limited length.
func FuzzSuperset(f *testing.F) {
	patterns := []string{
		"registry.example.com/models/chat", "registry.example.com/**", "registry.example.com:5000/*/chat", "docker.io/busybox", "docker.io/**",
		"[2001:db8::1]:5000/**", "10.0.0.1/**", "localhost/m", "a.b/c/**/d", "Foo/bar", "docker.io/library/**", "a_b.example/**",
	}
	spellings := []string{
		"registry.example.com/models/chat:2.1", "REGISTRY.example.com:0443/models/chat@sha256:" + hex64, "registry.example.com:05000/a/chat",
		"busybox", "index.docker.io/library/busybox:1", "registry.hub.docker.com/a/b", "[2001:DB8::1]:5000/a", "[::ffff:a00:1]/a", "sha256:01ab", hex64,
		"Foo/bar", "foo/bar", "foo:443/bar", "a.b/c/x/d:e@sha256:" + hex64, "a.b/C/d", "", " ", "a.b/c:" + strings.Repeat("x", 129),
		"a.b/" + strings.Repeat("c", 256), "docker.io:443/x",
		"[0]/1", "a_b.example/x", "A_b.example:443/x",
	}
	for i, p := range patterns {
		for _, s := range spellings {
			f.Add(p, patterns[(i+1)%len(patterns)], s)
		}
	}
	f.Fuzz(func(t *testing.T, first, second, image string) {
		snapshot, err := entitlement.New([]string{first, second})
		if err != nil || image == "" {
			return
		}
		filter := New(snapshot.Patterns())
		decision := entitlement.Decide(entitlement.Request{Image: image, Namespace: "any"}, snapshot, time.Time{})
		if decision.Governed() && !filter.MatchesImage(image) {
			t.Fatalf("%q is governed (%s) and passes %s", image, decision.Reason, filter.images())
		}
		for p := range snapshot.Patterns() {
			if !filter.Covers(p) {
				t.Fatalf("%v is not covered by its own filter", p)
			}
		}
		if len(filter.images()) > maxLength {
			t.Fatalf("the regular expression has %d characters", len(filter.images()))
		}
	})
}

// TestSupersetOfCollapsed holds collapsed filters to the same, with spellings of what is governed.
func TestSupersetOfCollapsed(t *testing.T) {
	hosts := []string{"registry.example.com", "registry.example.com:5000", "docker.io", "localhost", "10.0.0.1", "[2001:db8::1]"}
	spell := []func(host, path string) string{
		func(h, p string) string { return h + "/" + p + ":1" },
		func(h, p string) string { return strings.ToUpper(h) + "/" + p },
		func(h, p string) string { return h + ":0443/" + p + "@sha256:" + hex64 },
		func(_, p string) string { return p },
		func(_, p string) string { return strings.TrimPrefix(p, "library/") },
		func(_, p string) string { return "index.docker.io/" + p },
		func(_, p string) string { return "[::ffff:a00:1]/" + p },
		func(_, p string) string { return "registry.example.com:00005000/" + p + ":1@sha256:" + hex64 },
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		depth, width, count := 1+rng.IntN(4), 2+rng.IntN(60), 1+rng.IntN(400)
		path := func() string {
			parts := make([]string, 1+rng.IntN(depth))
			for i := range parts {
				parts[i] = []string{"x", "models", "library"}[rng.IntN(3)] + fmt.Sprint(rng.IntN(width))
			}
			if rng.IntN(5) == 0 {
				parts[0] = "library"
			}
			return strings.Join(parts, "/")
		}
		var governed, paths []string
		for range count {
			p := path()
			paths = append(paths, p)
			if rng.IntN(10) == 0 {
				p += "/**"
			}
			governed = append(governed, hosts[rng.IntN(len(hosts))]+"/"+p)
		}
		snapshot, err := entitlement.New(governed)
		if err != nil {
			t.Fatal(err)
		}
		filter := New(snapshot.Patterns())
		if filter.Alternatives() > maxAlternatives || len(filter.images()) > maxLength {
			t.Fatalf("%d alternatives of %d characters", filter.Alternatives(), len(filter.images()))
		}
		for _, p := range append(paths, path(), path()) {
			for _, host := range hosts {
				for _, how := range spell {
					image := how(host, p)
					decision := entitlement.Decide(entitlement.Request{Image: image}, snapshot, time.Time{})
					if decision.Governed() && !filter.MatchesImage(image) {
						t.Fatalf("%q is governed (%s) and passes %s", image, decision.Reason, filter.images())
					}
				}
			}
		}
	}
}

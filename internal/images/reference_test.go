package images

import (
	"errors"
	"strings"
	"testing"
)

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	digest := "sha256:" + hex64
	tests := map[string]struct {
		raw  string
		want Reference
	}{
		"host, path and tag":          {"registry.example.com/models/chat-7b:2.1", Reference{"registry.example.com/models/chat-7b", "2.1", ""}},
		"no tag":                      {"registry.example.com/models/chat-7b", Reference{"registry.example.com/models/chat-7b", "", ""}},
		"digest":                      {"registry.example.com/m@" + digest, Reference{"registry.example.com/m", "", digest}},
		"tag and digest":              {"registry.example.com/m:v1@" + digest, Reference{"registry.example.com/m", "v1", digest}},
		"host in upper case":          {"REGISTRY.Example.COM/models/chat", Reference{"registry.example.com/models/chat", "", ""}},
		"default port":                {"registry.example.com:443/models/chat", Reference{"registry.example.com/models/chat", "", ""}},
		"default port with zeros":     {"registry.example.com:000443/models/chat", Reference{"registry.example.com/models/chat", "", ""}},
		"other port":                  {"registry.example.com:5000/m", Reference{"registry.example.com:5000/m", "", ""}},
		"other port with zeros":       {"registry.example.com:05000/m", Reference{"registry.example.com:5000/m", "", ""}},
		"port zero":                   {"registry.example.com:00/m", Reference{"registry.example.com:0/m", "", ""}},
		"localhost":                   {"localhost/m", Reference{"localhost/m", "", ""}},
		"localhost in upper case":     {"LOCALHOST:5000/m", Reference{"localhost:5000/m", "", ""}},
		"host in upper case alone":    {"Foo/bar", Reference{"foo/bar", "", ""}},
		"IPv4 address":                {"10.0.0.1:5000/m", Reference{"10.0.0.1:5000/m", "", ""}},
		"IPv6 address":                {"[2001:DB8:0:0::1]:5000/m", Reference{"[2001:db8::1]:5000/m", "", ""}},
		"IPv6 address, default port":  {"[2001:db8::1]:443/m", Reference{"[2001:db8::1]/m", "", ""}},
		"IPv6 address without a port": {"[::443]/m", Reference{"[::443]/m", "", ""}},
		"IPv4 address as IPv6":        {"[::ffff:a00:1]:5000/m", Reference{"10.0.0.1:5000/m", "", ""}},
		"host with an underscore":     {"my_registry.example.com/models/chat:1", Reference{"my_registry.example.com/models/chat", "1", ""}},
		"user with an underscore":     {"my_user/chat", Reference{"docker.io/my_user/chat", "", ""}},
		"short name":                  {"busybox", Reference{"docker.io/library/busybox", "", ""}},
		"short name with tag":         {"busybox:1.36", Reference{"docker.io/library/busybox", "1.36", ""}},
		"Docker Hub's user":           {"acme/chat", Reference{"docker.io/acme/chat", "", ""}},
		"Docker Hub":                  {"docker.io/busybox", Reference{"docker.io/library/busybox", "", ""}},
		"Docker Hub with port":        {"docker.io:443/busybox", Reference{"docker.io/library/busybox", "", ""}},
		"Docker Hub, index":           {"index.docker.io/acme/chat", Reference{"docker.io/acme/chat", "", ""}},
		"Docker Hub, index, library":  {"Index.docker.io:443/busybox", Reference{"docker.io/library/busybox", "", ""}},
		"Docker Hub, registry":        {"registry-1.docker.io/acme/chat", Reference{"docker.io/acme/chat", "", ""}},
		"Docker Hub, old registry":    {"registry.hub.docker.com/library/busybox", Reference{"docker.io/library/busybox", "", ""}},
		"separators":                  {"registry.example.com/a__b/c_d/e---f.g", Reference{"registry.example.com/a__b/c_d/e---f.g", "", ""}},
		"63 hexadecimal digits":       {hex64[1:], Reference{"docker.io/library/" + hex64[1:], "", ""}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(test.raw)
			if err != nil || got != test.want {
				t.Errorf("Parse(%q) = %+v, %v; want %+v", test.raw, got, err, test.want)
			}
		})
	}
}

func TestParseImageID(t *testing.T) {
	for _, raw := range []string{
		"sha256:" + hex64, "sha256:0123", "sha256:a", "sha256:", "sha256:zz", "sha256:12/models", "sha512:abc", "sha384:abc",
		"sha256:abc@sha256:" + hex64, hex64,
	} {
		if _, err := Parse(raw); !errors.Is(err, ErrImageID) {
			t.Errorf("Parse(%q): %v, want ErrImageID", raw, err)
		}
	}
}

func TestParseRefusesWhatCannotBePulled(t *testing.T) {
	for _, raw := range []string{
		"", " ", "/", ":", "@", "a b", "Upper", "registry.example.com/Upper", "registry.example.com/", "registry.example.com//m",
		"registry.example.com/m:", "registry.example.com/m@", "registry.example.com/m@sha256:0123", "registry.example.com/m:a:b",
		"registry.example.com/../m", "registry.example.com/m/", "registry.example.com/m?x", "registry.example.com/m\n",
		"registry.example.com./m", "registry.example.com:port/m", "https://registry.example.com/m", "registry.example.com/*",
		"registry.example.com/a___b", "registry.example.com/-a", "registry.example.com/a-", "registry.example.com/a.-b",
		"régistry.example.com/m", "registry.example.com/m:" + strings.Repeat("x", 129), "-/m", "\x00",
		"registry.example.com/" + strings.Repeat("m", 256),
	} {
		got, err := Parse(raw)
		if err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", raw, got)
		}
		if errors.Is(err, ErrImageID) {
			t.Errorf("Parse(%q): %v, which is no image's ID", raw, err)
		}
	}
}

// seeds are references of every form, valid or not.
var seeds = []string{
	"registry.example.com/models/chat-7b:2.1", "registry.example.com:0443/a__b/c-d@sha256:" + hex64, "busybox", "a.b/c:d",
	"a.b:1/c.d", "docker.io/x", "index.docker.io/x", "localhost/x", "LOCALHOST:5000/x", "[::1]:443/x", "sha256:abc", hex64,
	"a.b/c___d", "a.b/-c", "a..b/c", "a.b-/c", "a.b:/c", "a.b/c:", "a.b/c@", "a.b/c:d@sha256:00", "A.b/c", "a.b//c", "a.b/c_-d",
	"10.0.0.1/m", "[::ffff:a00:1]/m", "a/b/c", "a.b/c:D_.-", "a.b/c:.d", "é.b/c", "a.b/é", "000000A00/0", "0_0.0/0", "",
}

// FuzzParse holds the normal form to be one.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		ref, err := Parse(raw)
		if err != nil {
			if ref != (Reference{}) {
				t.Fatalf("Parse(%q) = %+v beside the error %v", raw, ref, err)
			}
			return
		}
		again, err := Parse(ref.String())
		if err != nil || again != ref {
			t.Fatalf("Parse(%q) = %+v, but its normal form %q gives %+v, %v", raw, ref, ref.String(), again, err)
		}
		if ref.Repository != strings.ToLower(ref.Repository) {
			t.Fatalf("Parse(%q) leaves upper case in %q", raw, ref.Repository)
		}
		host, rest, found := strings.Cut(raw, "/")
		if found && (strings.Contains(host, ".") || host == "localhost") && !strings.ContainsAny(host, ":_") {
			alias, err := Parse(strings.ToUpper(host) + ":0443/" + rest)
			if err != nil || alias != ref {
				t.Fatalf("Parse(%q) = %+v, but with the host in upper case and port 443 it is %+v, %v", raw, ref, alias, err)
			}
		}
	})
}

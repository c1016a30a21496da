package images

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestFromText(t *testing.T) {
	digest := "sha256:" + hex64
	inferred := func(image string) []Mention { return []Mention{{"oci", image, Inferred}} }
	unresolved := func(image string) []Mention { return []Mention{{"oci", image, Unresolved}} }
	const chat = "registry.example.com/models/chat"
	tests := map[string]struct {
		text string
		want []Mention
	}{
		"bare":                          {"oci://" + chat + ":2.1", inferred(chat + ":2.1")},
		"in upper case":                 {"OCI://" + chat, inferred(chat)},
		"modelcar":                      {"modelcar://" + chat, []Mention{{"modelcar", chat, Inferred}}},
		"native":                        {"oci+native://" + chat, []Mention{{"oci+native", chat, Inferred}}},
		"fetch, in mixed case":          {"Oci+Fetch://" + chat, []Mention{{"oci+fetch", chat, Inferred}}},
		"another scheme's end":          {"kserve+oci://" + chat, inferred(chat)},
		"a flag":                        {"--model=oci://" + chat + ":2.1", inferred(chat + ":2.1")},
		"JSON":                          {`{"storageUri":"oci://` + chat + `:2.1","x":1}`, inferred(chat + ":2.1")},
		"a JSON list":                   {`["oci://` + chat + `"]`, inferred(chat)},
		"a shell script":                {"set -e; fetch 'oci://" + chat + ":2.1'; serve", inferred(chat + ":2.1")},
		"a shell list":                  {"a=oci://" + chat + ";b", inferred(chat)},
		"in brackets":                   {"(see oci://" + chat + ")", inferred(chat)},
		"a Markdown link":               {"[oci://" + chat + "]", inferred(chat)},
		"a comma":                       {"oci://" + chat + ",oci://quay.io/a/b", []Mention{{"oci", chat, Inferred}, {"oci", "quay.io/a/b", Inferred}}},
		"a full stop":                   {"Load oci://" + chat + ":2.1.", inferred(chat + ":2.1")},
		"digest":                        {"oci://" + chat + "@" + digest, inferred(chat + "@" + digest)},
		"tag and digest":                {"oci://" + chat + ":v1@" + digest, inferred(chat + ":v1@" + digest)},
		"a slash at the end":            {"oci://" + chat + "/", inferred(chat)},
		"a query":                       {"oci://" + chat + "?tag=x", inferred(chat)},
		"a fragment":                    {"oci://" + chat + "#x", inferred(chat)},
		"a path below the tag":          {"oci://" + chat + ":2.1/model.gguf", inferred(chat + ":2.1")},
		"a path below the digest":       {"oci://" + chat + "@" + digest + "/a/B", inferred(chat + "@" + digest)},
		"a file in upper case":          {"oci://" + chat + "/README", inferred(chat)},
		"a component partly upper case": {"oci://" + chat + "/readME", inferred(chat)},
		"a digest that is cut off":      {"oci://" + chat + ":2@sha256:0123", inferred(chat + ":2")},
		"a digest of a wrong length":    {"oci://" + chat + ":2@sha256:" + hex64[:40], inferred(chat + ":2")},
		"user information":              {"oci://user:secret@" + chat + ":2.1", inferred(chat + ":2.1")},
		"a user":                        {"oci://token@" + chat, inferred(chat)},
		"escapes":                       {"oci://registry.example.com/models%2Fchat%3a2.1", inferred(chat + ":2.1")},
		"an escaped query":              {"oci://" + chat + "%3Fx", inferred(chat)},
		"host in upper case, port":      {"oci://REGISTRY.example.com:443/models/chat", inferred("REGISTRY.example.com:443/models/chat")},
		"IPv6":                          {"oci://[2001:db8::1]:5000/m:1", inferred("[2001:db8::1]:5000/m:1")},
		"short name":                    {"oci://busybox", inferred("busybox")},
		"Docker Hub's user":             {"oci://acme/chat:1", inferred("acme/chat:1")},
		"image's ID":                    {"oci://sha256:0123", inferred("sha256:0123")},
		"twice":                         {"oci://a.b/c oci://d.e/f", []Mention{{"oci", "a.b/c", Inferred}, {"oci", "d.e/f", Inferred}}},
		"one within another":            {"oci://oci://" + chat, append(unresolved("oci://"+chat), inferred(chat)...)},
		"a line":                        {"x\noci://" + chat + "\ny", inferred(chat)},
		"shell braces":                  {"oci://" + chat + ":${VERSION}", unresolved(chat + ":${VERSION}")},
		"shell variable":                {"oci://$HOST/models/chat x", unresolved("$HOST/models/chat")},
		"the kubelet's":                 {"oci://$(REPOSITORY):1", unresolved("$(REPOSITORY):1")},
		"angle brackets":                {"oci://" + chat + ":<CHANGE ME> x", unresolved(chat + ":<CHANGE ME>")},
		"an element":                    {"<uri>oci://" + chat + "</uri>", inferred(chat)},
		"a template":                    {"oci://{{ .Values.image }}/x", unresolved("{{ .Values.image }}/x")},
		"a format":                      {"f'oci://{host}/x'", unresolved("{host}/x")},
		"a placeholder further on":      {"oci://" + chat + " --tag ${X}", inferred(chat)},
		"a path in upper case":          {"oci://registry.example.com/Models/chat", unresolved("registry.example.com/Models/chat")},
		"a percent format":              {"oci://%s/x", unresolved("%s/x")},
		"nothing":                       {"", nil},
		"a scheme alone":                {"oci:// x", nil},
		"a scheme and punctuation":      {`"oci://..."`, nil},
		"another scheme":                {"https://" + chat + " hf://a/b", nil},
		"no slashes":                    {"oci:" + chat, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := FromText(test.text); !reflect.DeepEqual(got, test.want) {
				t.Errorf("FromText(%q) = %+v, want %+v", test.text, got, test.want)
			}
		})
	}
}

func TestFromTextIsBounded(t *testing.T) {
	if got := FromText(strings.Repeat("oci://a.b/c ", 2*maxMentions)); len(got) != maxMentions {
		t.Errorf("%d mentions, want %d", len(got), maxMentions)
	}
	for _, hostile := range []string{
		strings.Repeat("oci://", 200_000), "oci://" + strings.Repeat("/a", 500_000), "oci://" + strings.Repeat("a:", 500_000),
		strings.Repeat("oci://a/{a", 100_000), strings.Repeat("oci://$(", 100_000), strings.Repeat("oci://a@a", 100_000), strings.Repeat("://", 300_000),
	} {
		if got := FromText(hostile); len(got) > maxMentions {
			t.Errorf("%.20s…: %d mentions", hostile, len(got))
		}
	}
}

func TestHasPlaceholder(t *testing.T) {
	for text, want := range map[string]bool{
		"registry.example.com/models/chat:2.1@sha256:" + hex64: false, "": false, "$": false, "a$": false, "a{}": false, "</a>": false, "a < b": false,
		"a/b:${VERSION}": true, "a/b:$(VERSION)": true, "$REGISTRY/a": true, "a/b:<tag>": true, "{{image}}": true, "{{ .Values.image }}": true,
		"a/{name}": true, "a:${": true, "<CHANGE ME>": true,
	} {
		if got := HasPlaceholder(text); got != want {
			t.Errorf("HasPlaceholder(%q) = %t", text, got)
		}
	}
}

// schemeExpression is Schemes as a match condition has them.
var schemeExpression = regexp.MustCompile(`(?i)(` + strings.ReplaceAll(strings.Join(Schemes, "|"), "+", `\+`) + `)://`)

// FuzzFromText holds what is found to be there, and what is there to be found.
func FuzzFromText(f *testing.F) {
	for _, seed := range append(seeds, "oci://a.b/c", "--m=OCI+Native://a.b/c:d@sha256:"+hex64+"/x", "modelcar://${A}/b", "oci://%41.b/c", "oci://u:p@a.b/c?x",
		"oci://[::1]:443/a", "{\"a\":\"oci://a/b\"}", "oci://<A B>c", "oci://a.b/c$", "://", "ocı://a/b", "OCI://") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := FromText(text)
		named := NamesScheme(text)
		if want := schemeExpression.MatchString(text); named != want {
			t.Fatalf("NamesScheme(%q) = %t, but the expression says %t", text, named, want)
		}
		if len(found) > maxMentions || len(found) > 0 && !named {
			t.Fatalf("FromText(%.200q): %d mentions, scheme named: %t", text, len(found), named)
		}
		for _, m := range found {
			_, err := Parse(m.Image)
			if readable := err == nil || errors.Is(err, ErrImageID); m.Image == "" || m.Confidence == Inferred && !readable {
				t.Fatalf("FromText(%q) finds %+v, which parses as %v", text, m, err)
			}
			if m.Confidence == Inferred && HasPlaceholder(m.Image) {
				t.Fatalf("FromText(%q) takes the placeholder in %+v for a reference", text, m)
			}
		}
		// Whatever parses is found behind a scheme, amid other text.
		ref, err := Parse(text)
		if err != nil {
			return
		}
		in := FromText("load \"OCI://" + text + "\" x")
		if len(in) != 1 || in[0].Confidence != Inferred {
			t.Fatalf("behind a scheme, %q is found as %+v", text, in)
		}
		if got, _ := Parse(in[0].Image); got.Repository != ref.Repository || got.Digest != ref.Digest {
			t.Fatalf("behind a scheme, %q is found as %+v", text, got)
		}
	})
}

package webhooks

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestDenialMessage(t *testing.T) {
	tests := map[string]struct {
		rights *fakeRights
		pod    *builders.PodBuilder
		want   string
	}{
		"one": {
			knows(t, chat().Obj()), server().Container("main", chatImage),
			`modelrights: pod denied [NoGrant]: container "main" (spec.containers[0].image): image "registry.example.com/models/chat:2.1" is model chat-7b 2.1 of acme.example, ` +
				`licensed as acme-chat, but namespace ml-prod has no ModelGrant of it; ask someone who may "grant" on modellicenses/acme-chat for a ModelGrant in namespace ml-prod ` +
				`with licenseName acme-chat and subject ServiceAccount llm`,
		},
		"the same in several places": {
			knows(t, chat().Obj()),
			server().InitContainer("fetch", chatImage).Container("main", chatImage).KeyVolume("acme-chat", "main"),
			`modelrights: pod denied [NoGrant]: init container "fetch" (spec.initContainers[0].image), container "main" (spec.containers[0].image), spec.volumes[0]: ` +
				`image "registry.example.com/models/chat:2.1" is model chat-7b 2.1 of acme.example, licensed as acme-chat, but namespace ml-prod has no ModelGrant of it; ` +
				`ask someone who may "grant" on modellicenses/acme-chat for a ModelGrant in namespace ml-prod with licenseName acme-chat and subject ServiceAccount llm`,
		},
		"several": {
			knows(t, chat().Obj()), server().Container("a", "registry.example.com/governed/x").Container("b", "sha256:0"),
			`modelrights: pod denied [Unlicensed,ImageID]: (1) container "a" (spec.containers[0].image): image "registry.example.com/governed/x" comes from a governed repository, ` +
				`but no ModelLicense covers it; ask your platform team for a ModelLicense that covers this repository (kubectl get mlic), or use an image that is licensed; ` +
				`(2) container "b" (spec.containers[1].image): image "sha256:0" names an image by its ID on the node, which hides whose it is; ` +
				`name the image by its repository: HOST/PATH:TAG or HOST/PATH@sha256:DIGEST`,
		},
		"nothing could be looked up": {
			&fakeRights{cached: snapshot(t, chat().Obj()), liveErr: errUnreachable}, server().Container("main", chatImage).Container("proxy", "busybox"),
			`modelrights: pod denied [LookupFailed]: container "main" (spec.containers[0].image): image "registry.example.com/models/chat:2.1" cannot be decided now: ` +
				`licences and grants could not be read; try again; if it persists, ask your platform team to look at the modelrights operator`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHooks(t, test.rights)
			r := h.validate.Handle(context.Background(), create(t, test.pod))
			if r.Allowed || r.Result.Message != test.want {
				t.Errorf("said\n%s\nwant\n%s", r.Result.Message, test.want)
			}
		})
	}
}

func TestDenialIsBounded(t *testing.T) {
	h := newHooks(t, knows(t, chat().Obj()))
	pod := server()
	for i := range 40 {
		pod = pod.Container(fmt.Sprintf("c%d", i), fmt.Sprintf("registry.example.com/models/chat:%d", i))
	}
	r := h.validate.Handle(context.Background(), create(t, pod))
	message := r.Result.Message
	if len(message) > maxMessage || !strings.HasSuffix(message, " more") || !strings.HasPrefix(message, "modelrights: pod denied [NoGrant]: (1) ") {
		t.Errorf("%d bytes: %s", len(message), message)
	}
	if n := len(r.Result.Details.Causes); n != maxCauses {
		t.Errorf("%d causes", n)
	}
	if d := (*h.denials)[0]; len(d.Uses) != maxCauses || d.Omitted != 40-maxCauses {
		t.Errorf("%d uses, %d omitted", len(d.Uses), d.Omitted)
	}

	short := server()
	for i := range 8 {
		short = short.Container(fmt.Sprintf("c%d", i), fmt.Sprintf("sha256:%d", i))
	}
	message = h.validate.Handle(context.Background(), create(t, short)).Result.Message
	if !strings.HasSuffix(message, "; and 3 more") || !strings.Contains(message, "(5) ") || strings.Contains(message, "(6) ") {
		t.Errorf("lists more than five: %s", message)
	}

	long := server().Container("main", strings.Repeat("é", 50_000)).Container("other", "registry.example.com/"+strings.Repeat("X", 50_000))
	message = h.validate.Handle(context.Background(), create(t, long)).Result.Message
	if len(message) > maxMessage || !utf8.ValidString(message) {
		t.Errorf("%d bytes: %s", len(message), message)
	}
}

func TestCauses(t *testing.T) {
	h := newHooks(t, knows(t, chat().Obj()))
	r := h.validate.Handle(context.Background(), create(t, server().Container("a", chatImage).Container("b", "sha256:0").KeyVolume("acme-none")))
	var got []string
	for _, c := range r.Result.Details.Causes {
		got = append(got, fmt.Sprintf("%s %s", c.Type, c.Field))
		if c.Message == "" {
			t.Errorf("cause %+v has no message", c)
		}
	}
	want := fmt.Sprint([]string{
		string(v1alpha1.ReasonNoGrant) + " spec.containers[0].image", string(v1alpha1.ReasonImageID) + " spec.containers[1].image",
		string(v1alpha1.ReasonLicenseMissing) + " spec.volumes[0]",
	})
	if fmt.Sprint(got) != want || r.Result.Details.Kind != "pods" || r.Result.Details.Name != "server" {
		t.Errorf("details %+v, want causes %s", r.Result.Details, want)
	}
}

func TestClip(t *testing.T) {
	for _, test := range []struct {
		s     string
		bytes int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "…"}, {"abcdef", 5, "ab…"}, {"ééé", 5, "é…"}, {"ééé", 4, "…"}, {"", 0, ""}} {
		if got := clip(test.s, test.bytes); got != test.want || len(got) > test.bytes {
			t.Errorf("clip(%q, %d) = %q, want %q", test.s, test.bytes, got, test.want)
		}
	}
}

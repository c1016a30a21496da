package entitlement

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestDecide(t *testing.T) {
	type m = map[string]string
	request := Request{Image: chatImage, Namespace: "ml-prod", ServiceAccount: "llm"}
	with := func(change func(*Request)) Request {
		r := request
		change(&r)
		return r
	}
	prod := builders.Grant("ml-prod", "chat", "acme-chat")
	granted := prod.ServiceAccount("llm").Obj()
	badSelector := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}

	tests := map[string]struct {
		request Request
		objects []any
		want    v1alpha1.Reason
		license string
		grant   string
		key     string
		says    []string // in the message or the remedy
	}{
		"entitled": {request, []any{chat().Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", []string{"ModelGrant ml-prod/chat"}},
		"entitled by an alias of the image": {
			with(func(r *Request) { r.Image = "REGISTRY.example.com:0443/models/chat" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil,
		},
		"another image": {
			with(func(r *Request) { r.Image = "registry.example.com/models/chat-7b" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonNotGoverned, "", "", "", []string{"not governed"},
		},
		"unlicensed": {
			with(func(r *Request) { r.Image = "registry.example.com/governed/x:1" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonUnlicensed, "", "", "", []string{"governed repository", "platform team"},
		},
		"unparsable": {
			with(func(r *Request) { r.Image = "registry.example.com/Models/chat" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonUnparsableImage, "", "", "", []string{"not a valid image reference", "correct"},
		},
		"image's ID": {
			with(func(r *Request) { r.Image = "sha256:0123" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonImageID, "", "", "", []string{"by its ID", "by its repository"},
		},
		"no grant":                   {request, []any{chat().Obj()}, v1alpha1.ReasonNoGrant, "acme-chat", "", "", []string{"chat-7b 2.1 of acme.example", "licensed as acme-chat", "ml-prod has no ModelGrant", `"grant" on modellicenses/acme-chat`}},
		"grant in another namespace": {request, []any{chat().Obj(), builders.Grant("ml-dev", "chat", "acme-chat").ServiceAccount("llm").Obj()}, v1alpha1.ReasonNoGrant, "acme-chat", "", "", nil},
		"grant of another licence":   {request, []any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-code").ServiceAccount("llm").Obj()}, v1alpha1.ReasonNoGrant, "acme-chat", "", "", nil},
		"another account": {
			with(func(r *Request) { r.ServiceAccount = "web" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonSubjectNotGranted, "acme-chat", "chat", "", []string{"names service account web", "subject ServiceAccount web"},
		},
		"no account means default": {
			with(func(r *Request) { r.ServiceAccount = "" }),
			[]any{chat().Obj(), granted}, v1alpha1.ReasonSubjectNotGranted, "acme-chat", "chat", "", []string{"service account default"},
		},
		"default granted": {
			with(func(r *Request) { r.ServiceAccount = "" }),
			[]any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("default").Obj()}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil,
		},
		"wildcard is no account": {
			request, []any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("*").Obj()}, v1alpha1.ReasonSubjectNotGranted, "acme-chat", "chat", "", nil,
		},
		"pod not selected": {
			request, []any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").PodSelector(m{"app": "chat"}).Obj()},
			v1alpha1.ReasonPodNotSelected, "acme-chat", "chat", "", []string{"podSelector of ModelGrant ml-prod/chat", "labels"},
		},
		"pod selected": {
			with(func(r *Request) { r.PodLabels = m{"app": "chat"} }),
			[]any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").PodSelector(m{"app": "chat"}).Obj()},
			v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil,
		},
		"action": {
			request, []any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").Action(v1alpha1.ActionMerge).Obj()},
			v1alpha1.ReasonActionNotLicensed, "acme-chat", "chat", "", []string{"action Merge", "(Inference)", "acme.example"},
		},
		"purpose": {
			request, []any{chat().Obj(), builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm").Purpose(v1alpha1.PurposeCommercial).Obj()},
			v1alpha1.ReasonPurposeNotLicensed, "acme-chat", "chat", "", []string{"purpose Commercial", "(Internal)"},
		},
		"namespace": {
			with(func(r *Request) { r.Namespace = "ml-dev" }),
			[]any{chat().Obj(), builders.Grant("ml-dev", "chat", "acme-chat").ServiceAccount("llm").Obj()},
			v1alpha1.ReasonNamespaceNotAllowed, "acme-chat", "", "", []string{"does not name namespace ml-dev", "it names ml-prod", "spec.allowedNamespaces"},
		},
		"namespace by label": {
			with(func(r *Request) { r.NamespaceLabels = m{"team": "ml"} }),
			[]any{chat().NamespaceSelector(m{"team": "ml"}).Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil,
		},
		"namespace by another label": {
			with(func(r *Request) { r.NamespaceLabels = m{"team": "web"} }),
			[]any{chat().NamespaceSelector(m{"team": "ml"}).Obj(), granted}, v1alpha1.ReasonNamespaceNotAllowed, "acme-chat", "", "", []string{"by label"},
		},
		"every namespace": {request, []any{chat().NamespaceSelector(nil).Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil},
		"no namespace":    {request, []any{chat().Namespaces().Obj(), granted}, v1alpha1.ReasonNamespaceNotAllowed, "acme-chat", "", "", nil},
		"licence's selector invalid": {
			request, []any{func() any {
				l := chat().Obj()
				l.Spec.AllowedNamespaces = v1alpha1.AllowedNamespaces{Selector: badSelector}
				return l
			}(), granted},
			v1alpha1.ReasonInvalidSelector, "acme-chat", "", "", []string{"selector", "ModelLicense acme-chat"},
		},
		"grant's selector invalid": {
			request, []any{chat().Obj(), func() any { g := granted.DeepCopy(); g.Spec.PodSelector = badSelector; return g }()},
			v1alpha1.ReasonInvalidSelector, "acme-chat", "chat", "", nil,
		},
		"not yet":           {request, []any{chat().NotBefore(now.Add(time.Second)).Obj(), granted}, v1alpha1.ReasonNotYetValid, "acme-chat", "", "", []string{"2026-12-01T12:00:01Z", "earlier start"}},
		"from this moment":  {request, []any{chat().NotBefore(now).Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil},
		"until this moment": {request, []any{chat().NotAfter(now).Obj(), granted}, v1alpha1.ReasonExpired, "acme-chat", "", "", []string{"2026-12-01T12:00:00Z", "renew"}},
		"until a moment on": {request, []any{chat().NotAfter(now.Add(time.Nanosecond)).Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil},
		"another licence asked": {
			with(func(r *Request) { r.License = "acme-code" }),
			[]any{chat().Obj(), code().Obj(), granted}, v1alpha1.ReasonModelNotReferenced, "", "", "", []string{"none of licence acme-code", "mount the key only where"},
		},
		"the licence asked": {
			with(func(r *Request) { r.License = "acme-chat" }),
			[]any{chat().Obj(), code().Obj(), granted}, v1alpha1.ReasonEntitled, "acme-chat", "chat", "v2", nil,
		},
		"no key": {
			request, []any{builders.License("acme-chat").Repository("registry.example.com/models/chat").Obj(), granted},
			v1alpha1.ReasonEntitled, "acme-chat", "chat", "", nil,
		},
		"the image's key": {
			request, []any{builders.License("acme-chat").RepositoryWithKey("registry.example.com/models/chat", "b").Key("a").Key("b").Obj(), granted},
			v1alpha1.ReasonEntitled, "acme-chat", "chat", "b", nil,
		},
		"the first entitled licence by name": {
			request, []any{
				builders.License("b").Repository("registry.example.com/models/*").Obj(), builders.License("c").Repository("registry.example.com/models/*").Obj(),
				builders.License("a").Repository("registry.example.com/models/*").Obj(),
				builders.Grant("ml-prod", "c", "c").ServiceAccount("llm").Obj(), builders.Grant("ml-prod", "b", "b").ServiceAccount("llm").Obj(),
			}, v1alpha1.ReasonEntitled, "b", "b", "", nil,
		},
		"the first entitled grant by name": {
			request, []any{
				chat().Obj(), builders.Grant("ml-prod", "a", "acme-chat").ServiceAccount("web").Obj(),
				builders.Grant("ml-prod", "c", "acme-chat").ServiceAccount("llm").Obj(), builders.Grant("ml-prod", "b", "acme-chat").ServiceAccount("llm").Obj(),
			}, v1alpha1.ReasonEntitled, "acme-chat", "b", "v2", nil,
		},
		"the refusal that came closest": {
			request, []any{
				chat().NotAfter(now).Obj(), builders.License("b").Repository("registry.example.com/**").Obj(), granted,
				builders.Grant("ml-prod", "b1", "b").ServiceAccount("web").Obj(), builders.Grant("ml-prod", "b2", "b").ServiceAccount("llm").Purpose(v1alpha1.PurposeResearch).Obj(),
			}, v1alpha1.ReasonPurposeNotLicensed, "b", "b2", "", nil,
		},
		"two grants do not add up": {
			request, []any{
				chat().Obj(), builders.Grant("ml-prod", "a", "acme-chat").ServiceAccount("llm").Action(v1alpha1.ActionMerge).Obj(),
				builders.Grant("ml-prod", "b", "acme-chat").ServiceAccount("web").Obj(),
			}, v1alpha1.ReasonActionNotLicensed, "acme-chat", "a", "", nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := Decide(test.request, snapshot(t, test.objects...), now)
			license, grant := "", ""
			if d.License != nil {
				license = d.License.Name
			}
			if d.Grant != nil {
				grant = d.Grant.Name
			}
			if d.Reason != test.want || license != test.license || d.KeyName != test.key {
				t.Errorf("decided %s by licence %q with key %q; want %s by %q with %q", d.Reason, license, d.KeyName, test.want, test.license, test.key)
			}
			if grant != test.grant {
				t.Errorf("grant %q, want %q", grant, test.grant)
			}
			text := d.Message() + "\n" + d.Remedy()
			for _, part := range append(test.says, test.request.Image) {
				if !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
			if d.Refused() && d.Remedy() == "" {
				t.Errorf("refusal %s has no remedy", d.Reason)
			}
		})
	}
}

func TestDecideGovernsNothing(t *testing.T) {
	for _, image := range []string{chatImage, "sha256:0123", "Not An Image"} {
		if d := Decide(Request{Image: image}, &Snapshot{}, now); d.Governed() {
			t.Errorf("an empty snapshot governs %q: %s", image, d.Reason)
		}
	}
}

func TestMessageIsBounded(t *testing.T) {
	s := snapshot(t, chat().Obj())
	d := Decide(Request{Image: strings.Repeat("é", 100_000), Namespace: "ml-prod"}, s, now)
	if d.Reason != v1alpha1.ReasonUnparsableImage || len(d.Message()) > 1024 {
		t.Errorf("%s in %d bytes", d.Reason, len(d.Message()))
	}
}

// FuzzDecide holds every decision to what it says of itself.
func FuzzDecide(f *testing.F) {
	for _, image := range []string{chatImage, codeImage, "registry.example.com/governed/x", "sha256:0", "busybox", "é", ""} {
		f.Add(image, "ml-prod", "llm", "acme-chat", int64(0))
	}
	f.Fuzz(func(t *testing.T, image, namespace, account, license string, seconds int64) {
		chat := chat().NotBefore(now).NotAfter(now.Add(time.Hour)).Obj()
		s := snapshot(t, chat, code().Obj(), grantOf("acme-chat"))
		at := now.Add(time.Duration(seconds % 7200 * int64(time.Second)))
		d := Decide(Request{Image: image, Namespace: namespace, ServiceAccount: account, License: license}, s, at)
		if d.Reason == "" || d.Message() == "" || d.Refused() && d.Remedy() == "" {
			t.Fatalf("decision %+v is not explained", d)
		}
		if d.Entitled() {
			inTime := !at.Before(now) && at.Before(now.Add(time.Hour))
			if d.License != chat || d.Grant == nil || namespace != "ml-prod" || account != "llm" || !inTime || license != "" && license != "acme-chat" {
				t.Fatalf("entitled: %+v at %s", d.Request, at)
			}
		}
	})
}

// Package bench measures what must stay fast however many licences and grants there are. Run it with make bench.
package bench

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

const (
	licenses   = 10_000
	grants     = 100_000
	namespaces = 1_000
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// crowded is a snapshot of 10,000 licences with two repositories each, one of them a pattern, and 100,000 grants, 100 in
// each of 1,000 namespaces, one of each licence at most.
var crowded = sync.OnceValue(func() *entitlement.Snapshot {
	s, err := entitlement.New([]string{"registry.example.com/governed/**"})
	if err != nil {
		panic(err)
	}
	c := entitlement.Changes{
		Licenses: make(map[string]*v1alpha1.ModelLicense, licenses),
		Grants:   make(map[entitlement.GrantKey]*v1alpha1.ModelGrant, grants),
	}
	for i := range licenses {
		l := builders.License(licenseName(i)).
			Repository(fmt.Sprintf("registry.example.com/models/m%d", i)).Repository(fmt.Sprintf("registry.example.com/vendors/v%d/**", i)).
			Key("v1").NamespaceSelector(map[string]string{"team": "ml"}).NotAfter(now.Add(time.Hour)).Obj()
		c.Licenses[l.Name] = l
	}
	perNamespace := grants / namespaces
	for i := range grants {
		namespace, n := i/perNamespace, i%perNamespace
		g := builders.Grant(namespaceName(namespace), fmt.Sprintf("g%d", n), licenseName((namespace*perNamespace+n)%licenses)).
			ServiceAccount("web", "llm").PodSelector(map[string]string{"app": "chat"}).Obj()
		c.Grants[entitlement.GrantKey{Namespace: g.Namespace, Name: g.Name}] = g
	}
	return s.Apply(c)
})

func licenseName(i int) string   { return fmt.Sprintf("license-%d", i) }
func namespaceName(i int) string { return fmt.Sprintf("ns-%d", i) }

// request is one that is entitled, by grant g42 of namespace ns-7.
func request() entitlement.Request {
	return entitlement.Request{
		Image: "registry.example.com/models/m742:2.1", Namespace: "ns-7", ServiceAccount: "llm",
		NamespaceLabels: map[string]string{"team": "ml", "kubernetes.io/metadata.name": "ns-7"},
		PodLabels:       map[string]string{"app": "chat", "pod-template-hash": "abc"},
	}
}

func BenchmarkDecide(b *testing.B) {
	s := crowded()
	with := func(change func(*entitlement.Request)) entitlement.Request {
		r := request()
		change(&r)
		return r
	}
	for _, test := range []struct {
		name    string
		request entitlement.Request
		want    v1alpha1.Reason
	}{
		{"Entitled", request(), v1alpha1.ReasonEntitled},
		{"EntitledByPattern", with(func(r *entitlement.Request) { r.Image = "registry.example.com/vendors/v742/a/b/c:2.1" }), v1alpha1.ReasonEntitled},
		{"EntitledByDigest", with(func(r *entitlement.Request) {
			r.Image = "registry.example.com/models/m742@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		}), v1alpha1.ReasonEntitled},
		{"RefusedNoGrant", with(func(r *entitlement.Request) { r.Namespace = "ns-8" }), v1alpha1.ReasonNoGrant},
		{"RefusedSubject", with(func(r *entitlement.Request) { r.ServiceAccount = "other" }), v1alpha1.ReasonSubjectNotGranted},
		{"RefusedUnlicensed", with(func(r *entitlement.Request) { r.Image = "registry.example.com/governed/x:1" }), v1alpha1.ReasonUnlicensed},
		{"RefusedImageID", with(func(r *entitlement.Request) { r.Image = "sha256:0123" }), v1alpha1.ReasonImageID},
		{"NotGoverned", with(func(r *entitlement.Request) { r.Image = "quay.io/acme/web:1" }), v1alpha1.ReasonNotGoverned},
		{"NotGovernedShortName", with(func(r *entitlement.Request) { r.Image = "busybox" }), v1alpha1.ReasonNotGoverned},
	} {
		b.Run(test.name, func(b *testing.B) {
			if got := entitlement.Decide(test.request, s, now).Reason; got != test.want {
				b.Fatalf("decided %s, want %s", got, test.want)
			}
			b.ReportAllocs()
			for b.Loop() {
				entitlement.Decide(test.request, s, now)
			}
		})
	}
}

// BenchmarkApply is what one change of a licence or a grant costs.
func BenchmarkApply(b *testing.B) {
	s := crowded()
	license := builders.License(licenseName(742)).Repository("registry.example.com/models/m742").Obj()
	grant := builders.Grant(namespaceName(7), "g42", licenseName(742)).ServiceAccount("llm").Obj()
	for name, change := range map[string]entitlement.Changes{
		"License": {Licenses: map[string]*v1alpha1.ModelLicense{license.Name: license}},
		"Grant":   {Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{{Namespace: grant.Namespace, Name: grant.Name}: grant}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Apply(change)
			}
		})
	}
}

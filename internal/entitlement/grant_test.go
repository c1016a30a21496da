package entitlement

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

func TestDecideGrant(t *testing.T) {
	soon, later := now.Add(time.Hour), now.Add(2*time.Hour)
	own := func() *builders.GrantBuilder {
		return builders.Grant("ml-prod", "chat", "acme-chat").ServiceAccount("llm")
	}
	g := own()
	badSelector := func() *v1alpha1.ModelGrant {
		bad := g.Obj()
		bad.Spec.PodSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
		return bad
	}()
	tests := map[string]struct {
		grant   *v1alpha1.ModelGrant
		license *v1alpha1.ModelLicense
		labels  map[string]string
		want    v1alpha1.Reason
		until   time.Time
		says    string
	}{
		"counts":                {g.Obj(), chat().Obj(), nil, v1alpha1.ReasonReady, time.Time{}, "model chat-7b 2.1 of acme.example"},
		"counts until":          {g.Obj(), chat().NotAfter(later).Obj(), nil, v1alpha1.ReasonReady, later, ""},
		"counts by label":       {g.Obj(), chat().NamespaceSelector(map[string]string{"a": "b"}).Obj(), map[string]string{"a": "b"}, v1alpha1.ReasonReady, time.Time{}, ""},
		"licence missing":       {g.Obj(), nil, nil, v1alpha1.ReasonLicenseMissing, time.Time{}, "kubectl get mlic"},
		"namespace not allowed": {g.Obj(), chat().Namespaces("other").Obj(), nil, v1alpha1.ReasonNamespaceNotAllowed, time.Time{}, "it names other"},
		"not yet":               {g.Obj(), chat().NotBefore(soon).NotAfter(later).Obj(), nil, v1alpha1.ReasonNotYetValid, soon, "2026-12-01T13:00:00Z"},
		"expired":               {g.Obj(), chat().NotAfter(now).Obj(), nil, v1alpha1.ReasonExpired, time.Time{}, "ask acme.example to renew"},
		"action":                {g.Action(v1alpha1.ActionMerge).Obj(), chat().Obj(), nil, v1alpha1.ReasonActionNotLicensed, time.Time{}, "set spec.action"},
		"purpose":               {g.Action(v1alpha1.ActionInference).Purpose(v1alpha1.PurposeResearch).Obj(), chat().Obj(), nil, v1alpha1.ReasonPurposeNotLicensed, time.Time{}, "set spec.purpose"},
		"suspended":             {own().Obj(), chat().Suspended().Obj(), nil, v1alpha1.ReasonSuspended, time.Time{}, "spec.suspended"},
		"licence in grace":      {own().Obj(), chat().NotAfter(now).Grace(time.Hour).Obj(), nil, v1alpha1.ReasonInGrace, soon, "until 2026-12-01T13:00:00Z pods that run go on"},
		"licence in open grace": {own().Obj(), chat().NotAfter(now).Grace(time.Hour).GraceAdmits(v1alpha1.GraceAdmitsAll).Obj(), nil, v1alpha1.ReasonReady, soon, ""},
		"grant not yet":         {own().NotBefore(soon).Obj(), chat().NotAfter(later).Obj(), nil, v1alpha1.ReasonGrantNotYetValid, soon, "spec.notBefore"},
		"grant in grace":        {own().NotAfter(now).Grace(2 * time.Hour).Obj(), chat().Obj(), nil, v1alpha1.ReasonInGrace, later, "the grant ended at 2026-12-01T12:00:00Z"},
		"grant expired":         {own().NotAfter(now).Obj(), chat().Obj(), nil, v1alpha1.ReasonGrantExpired, time.Time{}, "spec.notAfter"},
		"grant ends first":      {own().NotAfter(soon).Obj(), chat().NotAfter(later).Obj(), nil, v1alpha1.ReasonReady, soon, ""},
		"selector":              {badSelector, chat().Obj(), nil, v1alpha1.ReasonInvalidSelector, time.Time{}, "spec.podSelector"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := DecideGrant(test.grant, test.license, test.labels, now)
			if v.Reason != test.want || !v.Until.Equal(test.until) || !strings.Contains(v.Message, test.says) {
				t.Errorf("%+v, want %s until %s, saying %q", v, test.want, test.until, test.says)
			}
		})
	}
}

func TestDecideLicense(t *testing.T) {
	soon, later := now.Add(time.Hour), now.Add(2*time.Hour)
	license := chat().NotBefore(soon).NotAfter(later).Obj()
	for _, test := range []struct {
		at    time.Time
		want  v1alpha1.Reason
		until time.Time
	}{
		{now, v1alpha1.ReasonNotYetValid, soon}, {soon, v1alpha1.ReasonReady, later}, {later, v1alpha1.ReasonExpired, time.Time{}},
	} {
		if reason, until := DecideLicense(license, test.at); reason != test.want || !until.Equal(test.until) {
			t.Errorf("at %s: %s until %s, want %s until %s", test.at, reason, until, test.want, test.until)
		}
	}
	grace := chat().NotAfter(soon).Grace(time.Hour)
	for name, test := range map[string]struct {
		license *v1alpha1.ModelLicense
		at      time.Time
		want    v1alpha1.Reason
	}{
		"in grace":              {grace.Obj(), soon, v1alpha1.ReasonInGrace},
		"in grace for everyone": {grace.GraceAdmits(v1alpha1.GraceAdmitsAll).Obj(), soon, v1alpha1.ReasonReady},
		"after grace":           {grace.Obj(), later, v1alpha1.ReasonExpired},
		"suspended":             {chat().NotBefore(soon).Suspended().Obj(), now, v1alpha1.ReasonSuspended},
	} {
		if reason, _ := DecideLicense(test.license, test.at); reason != test.want {
			t.Errorf("%s: %s, want %s", name, reason, test.want)
		}
	}
}

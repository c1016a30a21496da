package entitlement

import (
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestSeatsGoFirst: of several licences that entitle a pod, the one counts of which it holds a seat.
func TestSeatsGoFirst(t *testing.T) {
	zeta := chat().Obj()
	zeta.Name = "zeta"
	refusing := chat().Obj()
	refusing.Name = "zeta"
	refusing.Spec.AllowedNamespaces.Names = nil
	for name, test := range map[string]struct {
		other *v1alpha1.ModelLicense
		seats []string
		want  string
	}{
		"no seat":                             {zeta, nil, "acme-chat"},
		"a seat of the first":                 {zeta, []string{"acme-chat"}, "acme-chat"},
		"a seat of the second":                {zeta, []string{"zeta"}, "zeta"},
		"seats of both":                       {zeta, []string{"acme-chat", "zeta"}, "acme-chat"},
		"a seat of one that does not entitle": {refusing, []string{"zeta"}, "acme-chat"},
		"a seat of one that does not cover":   {zeta, []string{"acme-code"}, "acme-chat"},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, chat().Obj(), grantOf("acme-chat"), test.other, grantOf("zeta"))
			pod := podOf(server().Container("a", chatImage))
			pod.Seats = test.seats
			used := DecidePod(pod, s, now).Licenses()
			if len(used) != 1 || used[0].License.Name != test.want {
				t.Errorf("uses %+v, want %s", used, test.want)
			}
		})
	}
}

// TestBeginningOfACoveredLicence: a running pod whose image two licences cover, and that holds a seat of one of them, does
// not come to use the other by an image that this alone covers.
func TestBeginningOfACoveredLicence(t *testing.T) {
	all, one := code().Repository("registry.example.com/models/chat").Obj(), chat().Obj()
	all.Name, one.Name = "all", "one"
	all.Spec.Keys, one.Spec.Keys = nil, nil
	s := snapshot(t, all, one, grantOf("all"), grantOf("one"))
	for name, test := range map[string]struct {
		seats   []string
		refused bool
	}{
		"a seat of the other":      {[]string{"one"}, true},
		"a seat of it":             {[]string{"all"}, false},
		"seats of both":            {[]string{"all", "one"}, false},
		"seats that are not known": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			old := podOf(server().Container("a", chatImage))
			pod := podOf(server().Container("a", codeImage))
			pod.Held, pod.Seats = true, test.seats
			before := *old.Spec
			_, refusals := DecideUpdate(pod, &before, s, now)
			if refused := len(refusals) > 0; refused != test.refused || refused && refusals[0].Reason != v1alpha1.ReasonGateMissing {
				t.Errorf("refusals %+v", refusals)
			}
		})
	}
}

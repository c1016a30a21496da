package seats

import (
	"slices"
	"testing"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// TestForgetNodes: a licence does not wait for pods to come to nodes that are gone.
func TestForgetNodes(t *testing.T) {
	l := Empty(license(1, "nodes", "1"))
	must(t, l, take(1), Bind{uid(1), "n1"}, take(2))
	forget := ForgetNodes{[]string{"n1", "other"}}
	if r := must(t, l, forget)[0]; r.Changed || !slices.Equal(l.Nodes(), []string{"n1"}) {
		t.Errorf("changed: %v, nodes %v: a holder is on it", r.Changed, l.Nodes())
	}
	must(t, l, End{Pod: uid(1), At: at(9)})
	if r := must(t, l, take(3))[0]; !slices.Equal(r.Confine, []string{"n1"}) {
		t.Errorf("confined to %v before it is known that the node is gone", r.Confine)
	}
	if r := must(t, l, forget, forget); !r[0].Changed || r[1].Changed || len(l.Nodes()) > 0 {
		t.Errorf("%+v, nodes %v", r, l.Nodes())
	}
	l = stored(t, l)
	if r := must(t, l, take(3))[0]; len(r.Confine) > 0 || !r.Changed {
		t.Errorf("%+v: a gated pod is placed anew", r)
	}
	if h, _ := l.Holder(uid(3)); h.Confined {
		t.Error("it reserves no node")
	}
	reason(t, l, v1alpha1.ReasonWaitingForSeat, take(4))
	must(t, l, Bind{uid(3), "n2"})
	reason(t, l, v1alpha1.ReasonNodeLimit, Release{Pod: uid(2), Node: "n1"}) // it is back, with the pod that was confined to it
}

package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestGateDoubts: a pod goes by licences that were read after it was doubted, not by those that were read for an earlier one
// of its name; and nothing is kept of pods that are gone.
func TestGateDoubts(t *testing.T) {
	live := fake.NewClientBuilder().WithScheme(revocationScheme(t)).WithObjects(chatLicense()).Build()
	name, known := types.NamespacedName{Namespace: "ml", Name: "llm"}, world{}.snapshot(t)
	var d gateDoubts
	ask := func(uid types.UID) bool {
		t.Helper()
		_, wait, err := d.licenses(t.Context(), live, name, uid, known)
		if err != nil {
			t.Fatal(err)
		}
		return wait == 0
	}
	if !ask("first") {
		t.Error("the first waits")
	}
	if ask("second") {
		t.Error("the second goes by what was read before it")
	}
	read := d.since[name].at
	if ask("third") || !d.since[name].at.After(read) {
		t.Error("the third goes by the doubt about the second")
	}
	long := time.Now().Add(-time.Hour)
	d.since[name], d.began = doubt{"third", long}, long
	name.Name = "other"
	if !ask("fourth") || len(d.since) > 0 {
		t.Errorf("kept %v", d.since)
	}
}

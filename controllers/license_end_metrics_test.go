package controllers

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

func TestLicenseEnds(t *testing.T) {
	end := time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)
	g := governed(t)
	registry := prometheus.NewRegistry()
	if err := RegisterLicenseEnds(registry, g); err != nil {
		t.Fatal(err)
	}
	if err := RegisterLicenseEnds(registry, g); err == nil {
		t.Error("registered twice")
	}
	shown := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				found[m.Label[0].GetValue()] = m.Gauge.GetValue()
			}
		}
		return found
	}
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{"endless": builders.License("endless").Repository("r.example/e").Obj()}}
	for i := range maxNamedLicenses + 5 {
		l := builders.License(fmt.Sprintf("l-%04d", i)).Repository("r.example/l").Obj()
		at := metav1.NewTime(end.Add(-time.Duration(i) * time.Hour))
		l.Spec.Terms.NotAfter = &at
		changes.Licenses[l.Name] = l
	}
	g.snapshot = g.snapshot.Apply(changes)
	got := shown()
	if _, endless := got["endless"]; endless || len(got) != maxNamedLicenses {
		t.Errorf("%d licences are shown", len(got))
	}
	if at := got["l-0005"]; at != float64(end.Add(-5*time.Hour).Unix()) {
		t.Errorf("l-0005 ends at %v", at)
	}
	if _, late := got["l-0004"]; late {
		t.Error("one of the last is shown, and not all of the first")
	}
	g.snapshot = g.snapshot.Apply(entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{"l-1004": nil}})
	if _, gone := shown()["l-1004"]; gone {
		t.Error("a licence that is gone is shown")
	}
	g.synced = false
	if got := shown(); len(got) != 0 {
		t.Errorf("shown before licences were read: %d", len(got))
	}
}

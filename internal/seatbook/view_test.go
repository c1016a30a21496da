package seatbook

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	toolscache "k8s.io/client-go/tools/cache"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// object is the ledger of a licence in which some pods hold seats.
func object(t testing.TB, license, version string, pods ...int) *v1alpha1.ModelSeats {
	t.Helper()
	l := seats.Empty(acme("99999"))
	for _, n := range pods {
		if r := l.Apply(take(n))[0]; !r.OK() {
			t.Fatal(r)
		}
	}
	out := &v1alpha1.ModelSeats{}
	out.Name, out.ResourceVersion = license, version
	l.Encode(out)
	return out
}

func TestView(t *testing.T) {
	v := NewView()
	var told []string
	v.Subscribe(func(license string) { told = append(told, license) })
	holds := func(n int, want ...string) {
		t.Helper()
		if got := v.LicensesOf(pod(n)); !slices.Equal(got, want) {
			t.Errorf("pod %d holds seats of %v, want %v", n, got, want)
		}
	}
	v.observe(object(t, "zeta", "1", 1, 2))
	v.observe(object(t, "acme", "2", 2, 3))
	v.observe(object(t, "beta", "3", 2))
	holds(1, "zeta")
	holds(2, "acme", "beta", "zeta")
	holds(3, "acme")
	holds(4)
	if got := v.Licenses(); !slices.Equal(got, []string{"acme", "beta", "zeta"}) {
		t.Errorf("licences %v", got)
	}
	first := v.Ledger("acme")
	v.observe(object(t, "acme", "2", 2, 3)) // a resync
	if v.Ledger("acme") != first {
		t.Error("a version is decoded twice")
	}
	v.observe(object(t, "zeta", "4", 1))
	holds(2, "acme", "beta")
	v.observe(object(t, "acme", "5", 3, 4))
	holds(2, "beta")
	holds(4, "acme")

	broken := object(t, "acme", "6", 3)
	broken.Spec.Holders[0] = "by hand"
	v.observe(broken)
	if err := v.Err("acme"); !errors.Is(err, ErrUndecodable) || !strings.Contains(err.Error(), "by hand") || v.Ledger("acme") != nil {
		t.Errorf("error %v", err)
	}
	holds(3)
	v.observe(object(t, "acme", "7", 3))
	if v.Err("acme") != nil || v.Ledger("acme").Len() != 1 {
		t.Errorf("mended, but %v", v.Err("acme"))
	}
	v.forget(toolscache.DeletedFinalStateUnknown{Obj: object(t, "acme", "7", 3)})
	v.forget(object(t, "beta", "3", 2))
	holds(2)
	holds(3)
	if v.Ledger("acme") != nil || len(v.more) != 0 || len(v.holding) != 1 {
		t.Errorf("%d pods, %d with several", len(v.holding), len(v.more))
	}
	if want := "zeta acme beta zeta acme acme acme acme beta"; strings.Join(told, " ") != want {
		t.Errorf("told %v, want %s", told, want)
	}
}

// BenchmarkViewMemory is what 10,000 ledgers of 5 pods each take.
func BenchmarkViewMemory(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		v := NewView()
		for i := range 10000 {
			v.observe(object(b, fmt.Sprint("license-", i), "1", 5*i, 5*i+1, 5*i+2, 5*i+3, 5*i+4))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		runtime.KeepAlive(v)
	}
}

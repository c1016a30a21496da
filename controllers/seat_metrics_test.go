package controllers

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// ledgersOf are the ledgers of licences, by name.
type ledgersOf map[string]*seats.Ledger

func (l ledgersOf) Ledger(license string) *seats.Ledger { return l[license] }
func (l ledgersOf) Licenses() []string                  { return slices.Sorted(maps.Keys(l)) }
func (l ledgersOf) LicensesOf(types.UID) []string       { return nil }
func (l ledgersOf) Subscribe(func(string))              {}
func (l ledgersOf) Synced() bool                        { return true }
func (l ledgersOf) Err(string) error                    { return nil }

// waitingOf is how many pods wait, by licence.
type waitingOf map[string]int

func (w waitingOf) Subscribe(func(string)) {}

func (w waitingOf) Waiting(license string) map[seats.Grant]WaitingSeats {
	return map[seats.Grant]WaitingSeats{{Name: "g"}: {Pods: w[license]}}
}

// takenBy is the ledger of a licence of which pods took seats at a time, each for one GPU and half a core.
func takenBy(license string, limits corev1.ResourceList, at time.Time, pods ...int) *seats.Ledger {
	l := &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: license, UID: types.UID("5a5b5c5d-0000-4000-8000-000000000000"), Generation: 1}}
	l.Spec.Terms.Limits = limits
	ledger := seats.Empty(l)
	for _, pod := range pods {
		ledger.Apply(seats.Adopt{
			Pod: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", pod)), Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: "6a5b5c5d-0000-4000-8000-000000000000"},
			Amount: list("nvidia.com/gpu", "1", "cpu", "500m"), Node: "n", Since: at,
		})
	}
	return ledger
}

func TestSeatMetrics(t *testing.T) {
	now := clocktesting.NewFakePassiveClock(seatNow)
	ledgers := ledgersOf{"chat": takenBy("chat", list("pods", "1", "nvidia.com/gpu", "8"), seatNow.Add(-100*time.Second), 1, 2)}
	registry, leads := prometheus.NewPedanticRegistry(), make(chan struct{})
	metrics, err := NewSeatMetrics(registry, ledgers, waitingOf{"chat": 3}, now, leads)
	if err != nil {
		t.Fatal(err)
	}
	if shown := gathered(t, registry); len(shown) != 0 {
		t.Errorf("a replica that does not lead shows %v", shown)
	}
	close(leads)
	metrics.Waited(3 * time.Second)
	want := map[string]float64{
		"modelrights_seat_resource_seconds_total chat cpu":            100,
		"modelrights_seat_resource_seconds_total chat nvidia.com/gpu": 200,
		"modelrights_seat_seconds_total chat":                         200,
		"modelrights_seats_beyond_limits chat":                        1,
		"modelrights_seats_in_use chat cpu":                           1,
		"modelrights_seats_in_use chat nodes":                         1,
		"modelrights_seats_in_use chat nvidia.com/gpu":                2,
		"modelrights_seats_in_use chat pods":                          2,
		"modelrights_seats_limit chat nvidia.com/gpu":                 8,
		"modelrights_seats_limit chat pods":                           1,
		"modelrights_seats_waiting chat":                              3,
		"modelrights_seat_wait_seconds":                               1,
	}
	if diff := cmp.Diff(want, gathered(t, registry)); diff != "" {
		t.Error(diff)
	}
}

// gathered are the values that a registry shows, by name and labels; of a histogram, how often something was observed.
func gathered(t *testing.T, registry prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()); value != 0 {
				values[name] = value
			}
		}
	}
	return values
}

// TestSeatCountersOnlyGrow: whatever becomes of licences, no counter goes down but that of a licence that is begun anew.
func TestSeatCountersOnlyGrow(t *testing.T) {
	now := clocktesting.NewFakePassiveClock(seatNow)
	ledgers := ledgersOf{}
	for i := range maxNamedLicenses + 3 {
		name := fmt.Sprintf("chat-%04d", i)
		ledgers[name] = takenBy(name, nil, seatNow.Add(-10*time.Second), i)
	}
	metrics, err := NewSeatMetrics(prometheus.NewPedanticRegistry(), ledgers, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	others := func() int64 {
		t.Helper()
		shown := metrics.gather()
		if len(shown) > maxNamedLicenses+1 {
			t.Errorf("%d licences are shown", len(shown))
		}
		return shown[otherLicenses].usage.PodSeconds
	}
	if got := others(); got != 3*10 {
		t.Errorf("others used %d seconds", got)
	}
	delete(ledgers, "chat-0007") // which makes room for another name
	now.SetTime(seatNow.Add(10 * time.Second))
	if got := others(); got != 3*20 {
		t.Errorf("with room for another name: others used %d seconds", got)
	}
	delete(ledgers, "chat-1001")
	now.SetTime(seatNow.Add(20 * time.Second))
	if got := others(); got != 2*30+20 {
		t.Errorf("without one of the others: they used %d seconds", got)
	}
	ledgers["chat-new"] = takenBy("chat-new", nil, seatNow, 1)
	if shown := metrics.gather(); shown["chat-new"] == nil {
		t.Error("a new licence does not get the free name")
	}
}

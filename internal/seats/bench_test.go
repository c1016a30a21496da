package seats

import (
	"encoding/json"
	"fmt"
	"testing"
)

func held(b *testing.B, n int) *Ledger {
	b.Helper()
	l := Empty(license(1, "pods", fmt.Sprint(n+5000), "nvidia.com/gpu", fmt.Sprint(n+5000)))
	for i := range n {
		c := take(i, "nvidia.com/gpu", "1", "cpu", "4", "memory", "32Gi")
		c.Grant = grantNamed(fmt.Sprint("g", i%20))
		must(b, l, c, Bind{c.Pod, fmt.Sprint("node-", i%500)})
	}
	return l
}

func waitingPods(n int) []Waiting {
	out := make([]Waiting, n)
	for i := range out {
		out[i] = Waiting{
			Pod: uid(100000 + i), Name: fmt.Sprint("ml/pod-", i), Created: at(i % 100), Priority: int32(i % 3),
			Wants: []Want{{License: "acme", Grant: grantNamed(fmt.Sprint("g", i%20)), Amount: list("nvidia.com/gpu", "1", "cpu", "4", "memory", "32Gi")}},
		}
	}
	return out
}

// BenchmarkPlan plans 5,000 waiting pods of 20 grants, when all have room and when none has.
func BenchmarkPlan(b *testing.B) {
	free := held(b, 1000)
	full := free.Clone()
	full.Apply(Limit{License: license(2, "pods", "1000")})
	for name, l := range map[string]*Ledger{"room": free, "none": full} {
		b.Run(name, func(b *testing.B) {
			in := PlanInput{Ledgers: ledgers(l), Waiting: waitingPods(5000)}
			b.ReportAllocs()
			for b.Loop() {
				if got := Plan(in); len(got) != 5000 {
					b.Fatal(len(got))
				}
			}
		})
	}
}

// BenchmarkTake takes batches of seats in a ledger of 5,000 holders, from the stored form to the stored form.
func BenchmarkTake(b *testing.B) {
	l := held(b, 5000)
	object := encoded(l)
	for _, batch := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			changes := make([]Change, batch)
			for i := range changes {
				c := take(200000+i, "nvidia.com/gpu", "1", "cpu", "4", "memory", "32Gi")
				c.Grant = grantNamed(fmt.Sprint("g", i%20))
				changes[i] = c
			}
			b.ReportAllocs()
			for b.Loop() {
				next := l.Clone()
				for _, r := range next.Apply(changes...) {
					if !r.Changed {
						b.Fatal(r)
					}
				}
				next.Encode(object)
			}
		})
	}
}

// BenchmarkDecode reads ledgers as a View does.
func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{5, 5000, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			object := encoded(held(b, n))
			data, _ := json.Marshal(object)
			b.ReportMetric(float64(len(data)), "json-bytes")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(object); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

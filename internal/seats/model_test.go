package seats

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// modelPod is a pod as the cluster has it, whatever the ledger thinks.
type modelPod struct {
	grant Grant
	gpus  int
	// planned is what a leader decided and may not have written yet; confine is where it was told to confine the pod.
	gated, alive bool
	node         string
	confine      []string
	since, ended int
	// seat is true once a write that gave it a seat was stored, and over once one that ended it was.
	seat, over bool
}

// writer is an operator: it has a ledger as it last read it, and a licence that may be an old one.
type writer struct {
	base    *v1alpha1.ModelSeats
	license *v1alpha1.ModelLicense
}

// machine drives ledgers as operators do: they read, change and write by compare-and-swap, writes are lost or applied
// without the writer knowing, pods come and go, limits change.
type machine struct {
	store   *v1alpha1.ModelSeats // as in etcd; the version is in ResourceVersion
	version int
	license *v1alpha1.ModelLicense
	writers []*writer
	pods    map[types.UID]*modelPod
	clock   int
	next    int
	used    map[Grant]int64 // pod-seconds of ended seats, counted once each
	gpus    map[Grant]int64
	limits  map[Grant]int // pods that a grant allows
}

var modelGrants = []Grant{grantNamed("a"), grantNamed("b"), grantNamed("c")}

func newMachine(t *rapid.T) *machine {
	m := &machine{pods: map[types.UID]*modelPod{}, used: map[Grant]int64{}, gpus: map[Grant]int64{}, limits: map[Grant]int{}}
	m.license = license(1)
	m.setLimits(t)
	m.store = &v1alpha1.ModelSeats{}
	Empty(m.license).Encode(m.store)
	m.bump()
	for range 2 {
		m.writers = append(m.writers, &writer{m.store, m.license})
	}
	for _, g := range modelGrants {
		m.limits[g] = rapid.IntRange(1, 5).Draw(t, "the grant's pods")
	}
	return m
}

func (m *machine) setLimits(t *rapid.T) {
	m.license.Spec.Terms.Limits = list("pods", fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "pods")),
		"nodes", fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "nodes")), string(gpu), fmt.Sprint(rapid.IntRange(1, 8).Draw(t, "gpus")))
}

func (m *machine) bump() {
	m.version++
	m.store.ResourceVersion = fmt.Sprint(m.version)
}

// write reads, changes and writes as Book does, for a writer that may have an old ledger in memory, lose the answer, or
// crash before it writes. It reports what came of the changes, where the writer knows.
func (m *machine) write(t *rapid.T, w *writer, changes ...Change) ([]Result, bool) {
	for range 3 {
		l, err := Decode(w.base)
		if err != nil {
			t.Fatalf("what was stored cannot be decoded: %v", err)
		}
		before, _ := Decode(w.base)
		results := make([]Result, len(changes))
		changed := false
		for i, c := range changes {
			if limit, ok := c.(Limit); ok {
				limit.Confirmed = limit.License.UID == m.license.UID &&
					(limit.License.UID != l.LicenseUID() || limit.License.Generation == m.license.Generation)
				c = limit
			}
			results[i] = l.Apply(c)[0]
			m.checkChange(t, l, c, results[i])
			changed = changed || results[i].Changed
		}
		if w.base.ResourceVersion != m.store.ResourceVersion {
			w.base = m.store // a conflict, or a read that confirms
			continue
		}
		if !changed {
			return results, true
		}
		fate := rapid.SampledFrom([]string{"stored", "stored", "stored", "stored", "answer lost", "request lost"}).Draw(t, "the write is")
		if fate == "request lost" {
			return nil, false
		}
		next := &v1alpha1.ModelSeats{}
		l.Encode(next)
		m.store = next
		m.bump()
		m.settle(t, before, l)
		if fate == "answer lost" {
			// The writer reads what is there and applies the same changes to it.
			w.base = m.store
			if rapid.Bool().Draw(t, "crashes") {
				return nil, false
			}
			continue
		}
		w.base = m.store
		return results, true
	}
	return nil, false
}

// checkChange checks what a single change promises.
func (m *machine) checkChange(t *rapid.T, l *Ledger, c Change, r Result) {
	take, ok := c.(Take)
	if !ok || !r.OK() || !r.Changed || r.Kind != Regular {
		return
	}
	inUse, wants := l.InUse(), tally{pods: 1, of: amountOf(take.Amount)}
	for name, limit := range l.Limits() {
		if used := inUse[name]; name != ResourceNodes && wants.inUseOf(name, 0) > 0 && used.Cmp(limit) > 0 {
			t.Fatalf("%+v was given beyond the limit of %s: %s of %s in use", take, name, used.String(), limit.String())
		}
	}
	if l.generation != take.Generation {
		t.Fatalf("%+v was given by who does not know generation %d", take, l.generation)
	}
	if nodes := l.nodesInUse(); nodes > l.bounds.nodes && len(r.Confine) == 0 {
		t.Fatalf("%+v may go anywhere though %d nodes of %d are in use", take, nodes, l.bounds.nodes)
	}
}

// settle takes over into the model what a stored write did: whose seat began and whose ended. The usage of a seat is
// counted when it goes, once.
func (m *machine) settle(t *rapid.T, before, after *Ledger) {
	for _, h := range before.Holders() {
		if _, still := after.Holder(h.Pod); still {
			continue
		}
		p := m.pods[h.Pod]
		if p.over {
			t.Fatalf("pod %s gave its seat back twice", h.Pod)
		}
		p.seat = false
		if !p.gated || p.node != "" {
			p.over = true
			m.used[p.grant] += int64(p.ended - p.since)
			m.gpus[p.grant] += int64((p.ended - p.since) * p.gpus)
		}
	}
	for _, h := range after.Holders() {
		p := m.pods[h.Pod]
		if p.over {
			t.Fatalf("pod %s has ended and holds a seat again", h.Pod)
		}
		if !p.seat {
			p.seat, p.since = true, int(h.Since.Sub(start).Seconds())
		}
	}
}

// pick is one of the pods that are as wanted; false where none is.
func (m *machine) pick(t *rapid.T, as func(*modelPod) bool) (types.UID, *modelPod, bool) {
	var some []types.UID
	for _, pod := range slices.Sorted(maps.Keys(m.pods)) {
		if as(m.pods[pod]) {
			some = append(some, pod)
		}
	}
	if len(some) == 0 {
		return "", nil, false
	}
	pod := rapid.SampledFrom(some).Draw(t, "pod")
	return pod, m.pods[pod], true
}

func (m *machine) writer(t *rapid.T) *writer {
	return m.writers[rapid.IntRange(0, len(m.writers)-1).Draw(t, "writer")]
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"a pod comes": func(t *rapid.T) {
			m.next++
			m.pods[uid(m.next)] = &modelPod{
				grant: rapid.SampledFrom(modelGrants).Draw(t, "grant"), gpus: rapid.IntRange(0, 3).Draw(t, "gpus"), gated: true, alive: true,
			}
		},
		"time goes by": func(t *rapid.T) { m.clock += rapid.IntRange(1, 60).Draw(t, "seconds") },
		"a leader allocates": func(t *rapid.T) {
			w := m.writer(t)
			m.allocate(t, w)
		},
		"a pod is scheduled": func(t *rapid.T) {
			_, p, ok := m.pick(t, func(p *modelPod) bool { return p.alive && !p.gated && p.node == "" })
			if !ok {
				t.Skip()
			}
			nodes := []string{"n1", "n2", "n3", "n4"}
			if len(p.confine) > 0 {
				nodes = p.confine
			}
			p.node = rapid.SampledFrom(nodes).Draw(t, "node")
		},
		"a binding is noted": func(t *rapid.T) {
			pod, p, ok := m.pick(t, func(p *modelPod) bool { return p.seat && p.node != "" })
			if !ok {
				t.Skip()
			}
			if results, known := m.write(t, m.writer(t), Bind{pod, p.node}); known && results[0].Reason == v1alpha1.ReasonNodeLimit {
				t.Fatalf("pod %s went where it might, and is one node too many", pod)
			}
		},
		"a key is released": func(t *rapid.T) {
			pod, p, ok := m.pick(t, func(p *modelPod) bool { return p.alive && p.node != "" })
			if !ok {
				t.Skip()
			}
			results, known := m.write(t, m.writer(t), Release{Pod: pod, Node: p.node})
			if known && results[0].OK() && !p.seat {
				t.Fatalf("pod %s got a key without a seat", pod)
			}
		},
		"a pod ends": func(t *rapid.T) {
			pod, p, ok := m.pick(t, func(p *modelPod) bool { return p.seat && !p.gated })
			if !ok {
				t.Skip()
			}
			if p.alive {
				p.alive, p.ended = false, m.clock
			}
			m.write(t, m.writer(t), End{Pod: pod, At: at(p.ended)})
		},
		"a gated pod goes": func(t *rapid.T) {
			pod, p, ok := m.pick(t, func(p *modelPod) bool { return p.gated })
			if !ok {
				t.Skip()
			}
			p.alive = false
			m.write(t, m.writer(t), GiveBack{Pod: pod})
		},
		"a pod runs without a seat": func(t *rapid.T) {
			m.next++
			pod, p := uid(m.next), &modelPod{
				grant: rapid.SampledFrom(modelGrants).Draw(t, "grant"), gpus: rapid.IntRange(0, 3).Draw(t, "gpus"), alive: true,
				node: rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"}).Draw(t, "node"),
			}
			m.pods[pod] = p
			m.write(t, m.writer(t), Adopt{
				Pod: pod, Grant: p.grant, GrantLimits: m.grantLimits(p.grant), Amount: p.amount(), Node: p.node, Since: at(m.clock),
			})
		},
		"the licence changes": func(t *rapid.T) {
			m.license = m.license.DeepCopy()
			m.license.Generation++
			m.setLimits(t)
		},
		"a leader hears of it": func(t *rapid.T) {
			w := m.writer(t)
			w.license = m.license
			m.write(t, w, Limit{License: w.license})
		},
		"the licence is made anew": func(t *rapid.T) {
			m.license = m.license.DeepCopy()
			m.license.Generation, m.license.UID = 1, types.UID(fmt.Sprint("license-", m.version))
			m.setLimits(t)
		},
		"": m.check,
	}
}

func (p *modelPod) amount() corev1.ResourceList {
	return list(string(gpu), fmt.Sprint(p.gpus))
}

func (m *machine) grantLimits(g Grant) corev1.ResourceList {
	return list("pods", fmt.Sprint(m.limits[g]))
}

// allocate is what a leader does: plan, take, and remove the gates of those that have their seats.
func (m *machine) allocate(t *rapid.T, w *writer) {
	l, err := Decode(w.base)
	if err != nil {
		t.Fatal(err)
	}
	l.Apply(Limit{License: w.license, Confirmed: true})
	in := PlanInput{Now: at(m.clock), Ledgers: map[string]*Ledger{"acme": l}}
	for _, pod := range slices.Sorted(maps.Keys(m.pods)) {
		if p := m.pods[pod]; p.gated && p.alive {
			in.Waiting = append(in.Waiting, Waiting{Pod: pod, Created: start, Wants: []Want{{
				License: "acme", Grant: p.grant, GrantLimits: m.grantLimits(p.grant), Amount: p.amount(),
			}}})
		}
	}
	changes := []Change{Limit{License: w.license}}
	var pods []types.UID
	for _, a := range Plan(in) {
		p := m.pods[a.Pod]
		if _, holds := l.Holder(a.Pod); !a.Take && !holds {
			continue
		}
		pods = append(pods, a.Pod)
		changes = append(changes, Take{
			Pod: a.Pod, Grant: p.grant, GrantLimits: m.grantLimits(p.grant), Amount: p.amount(), Generation: w.license.Generation, Since: at(m.clock),
		})
	}
	results, known := m.write(t, w, changes...)
	if !known {
		return
	}
	for i, pod := range pods {
		if rapid.Float64().Draw(t, "crash") > 0.9 {
			return
		}
		if r := results[i+1]; r.OK() {
			p := m.pods[pod]
			if p.gated {
				p.gated, p.confine = false, r.Confine
			}
		}
	}
}

// check is what holds at any time.
func (m *machine) check(t *rapid.T) {
	l, err := Decode(m.store)
	if err != nil {
		t.Fatalf("what was stored cannot be decoded: %v", err)
	}
	seats := 0
	for pod, p := range m.pods {
		h, holds := l.Holder(pod)
		if holds != p.seat {
			t.Fatalf("pod %s: holds a seat: %v, and should: %v", pod, holds, p.seat)
		}
		if p.alive && !p.gated && p.confine == nil && p.node == "" && !holds {
			t.Fatalf("pod %s runs without a seat", pod)
		}
		if holds {
			seats++
			if h.Grant != p.grant {
				t.Fatalf("pod %s has its seat from %s", pod, h.Grant)
			}
		}
	}
	if l.Len() != seats {
		t.Fatalf("%d holders, %d pods have seats", l.Len(), seats)
	}
	recounted, _ := Decode(m.store)
	if fmt.Sprint(l.InUse()) != fmt.Sprint(recounted.InUse()) {
		t.Fatalf("in use %v, counted anew %v", l.InUse(), recounted.InUse())
	}
	for _, g := range modelGrants {
		got := l.UsageOf(g, at(0)) // of closed seats alone
		if got.PodSeconds != m.used[g] || got.ResourceSeconds[gpu] != m.gpus[g] {
			t.Fatalf("usage of %s is %+v, should be %d and %d", g, got, m.used[g], m.gpus[g])
		}
	}
}

// drain is that nothing deadlocks and nothing leaks: once all that run have ended, everybody who waits and fits gets a
// seat, one after another, and in the end nobody holds one.
func (m *machine) drain(t *rapid.T) {
	l, err := Decode(m.store)
	if err != nil {
		t.Fatal(err)
	}
	l.Apply(Limit{License: m.license, Confirmed: true})
	for round := 0; ; round++ {
		if round > len(m.pods)+1 {
			t.Fatalf("pods wait for ever")
		}
		for pod, p := range m.pods {
			if _, holds := l.Holder(pod); holds && (!p.gated || !p.alive) {
				l.Apply(End{Pod: pod, At: at(m.clock)})
			}
		}
		in := PlanInput{Now: at(m.clock), Ledgers: map[string]*Ledger{"acme": l}}
		waiting := 0
		for _, pod := range slices.Sorted(maps.Keys(m.pods)) {
			p := m.pods[pod]
			if !p.gated || !p.alive {
				continue
			}
			if _, holds := l.Holder(pod); holds {
				p.gated = false
				continue
			}
			waiting++
			in.Waiting = append(in.Waiting, Waiting{Pod: pod, Created: start, Wants: []Want{{
				License: "acme", Grant: p.grant, GrantLimits: m.grantLimits(p.grant), Amount: p.amount(),
			}}})
		}
		if waiting == 0 && l.Len() == 0 {
			return
		}
		taken, tooLarge := 0, 0
		for _, a := range Plan(in) {
			p := m.pods[a.Pod]
			take := Take{
				Pod: a.Pod, Grant: p.grant, GrantLimits: m.grantLimits(p.grant), Amount: p.amount(), Generation: l.Generation(), Since: at(m.clock),
			}
			switch {
			case a.Take:
				if r := l.Apply(take)[0]; !r.OK() {
					t.Fatalf("%+v was planned and then refused: %+v", take, r)
				}
				p.gated = false
				taken++
			case a.Reason == v1alpha1.ReasonTooLarge:
				if r := l.Apply(take)[0]; r.Reason != v1alpha1.ReasonTooLarge {
					t.Fatalf("%+v is said to be too large, but: %+v", take, r)
				}
				p.alive = false
				tooLarge++
			}
		}
		if waiting > 0 && taken+tooLarge == 0 && l.Len() == 0 {
			t.Fatalf("%d pods wait for nothing", waiting)
		}
	}
}

func TestLedgerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(m.actions())
		m.drain(t)
	})
}

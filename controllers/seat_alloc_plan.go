package controllers

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// defaultSurgePeriod is that of terms.surge.period.
const defaultSurgePeriod = 10 * time.Minute

// plan decides who takes seats now, and says what the others are to be told. Partial are pods that hold some seats and not
// all that they need, and so give back those they hold.
func (a *SeatAllocator) plan(s *allocScene) (chosen []queuedPod, partial []types.NamespacedName) {
	in := seats.PlanInput{Now: s.now, Ledgers: s.ledgers, Groups: s.groups, PodName: a.Queue.nameOf, Waiting: make([]seats.Waiting, len(s.waiting))}
	for i := range s.waiting {
		p := &s.waiting[i]
		in.Waiting[i] = seats.Waiting{Pod: p.uid, Name: p.name.String(), Priority: p.priority, Created: p.created, Group: p.group}
		for _, n := range p.needs {
			in.Waiting[i].Wants = append(in.Waiting[i].Wants, seats.Want{
				License: n.license.Name, Grant: n.seatGrant(), GrantLimits: n.grant.Spec.Limits, Amount: n.amount,
				Surge: surgeFor(n.license, s.surges[p.uid]),
			})
		}
	}
	chosen = s.resumed
	for _, allocation := range seats.Plan(in) {
		p := s.waiting[allocation.Index]
		if allocation.Take {
			chosen = append(chosen, p)
			continue
		}
		a.Queue.owe(p.uid, verdict{reason: allocation.Reason, message: allocation.Message, position: allocation.Position}, s.now)
	}
	a.Queue.givesBack(s.partial)
	return chosen, s.partial
}

// surgeFor is by what right a pod may surge under a licence; nil where it may not.
func surgeFor(l *v1alpha1.ModelLicense, replaces []types.UID) *seats.SurgeFor {
	surge := l.Spec.Terms.Surge
	if surge == nil || surge.Pods == 0 || len(replaces) == 0 {
		return nil
	}
	period := defaultSurgePeriod
	if surge.Period != nil {
		period = surge.Period.Duration
	}
	return &seats.SurgeFor{Pods: surge.Pods, Period: period, Replaces: replaces}
}

// nameOf is the NAMESPACE/NAME of a pod, or empty.
func (q *SeatQueue) nameOf(uid types.UID) string {
	if name, ok := q.PodOf(uid); ok {
		return name.String()
	}
	return ""
}

// givesBack notes that waiting pods are to give back what seats they hold.
func (q *SeatQueue) givesBack(pods []types.NamespacedName) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range pods {
		if p := q.pods[name]; p != nil && p.state == seatInQueue {
			p.partial = true
		}
	}
}

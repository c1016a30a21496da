package controllers

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
)

// defaultSurgePeriod is that of terms.surge.period.
const defaultSurgePeriod = 10 * time.Minute

// plan decides who takes seats now, and says what the others are to be told. Partial are pods that hold some seats and not
// all that they need, and so give back those they hold.
func (a *SeatAllocator) plan(s *allocScene) (chosen []queuedPod, partial []types.NamespacedName) {
	in := seats.PlanInput{Now: s.now, Ledgers: s.ledgers, Groups: s.groups, PodName: a.Queue.nameOf, LastTurn: a.lastTurn, Waiting: make([]seats.Waiting, len(s.waiting))}
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
		a.Queue.owe(p.uid, verdict{
			reason: allocation.Reason, message: allocation.Message, position: allocation.Position, passing: len(chosen) > 0, // those that take come first
		}, s.now)
	}
	a.Queue.givesBack(s.partial)
	return chosen, s.partial
}

// maxTurns bounds the grants of which it is known when they last had a turn. Of one that is forgotten the turn is next.
const maxTurns = 100_000

// turnKey is a grant in its turn for the seats of a licence.
type turnKey struct {
	license string
	grant   types.UID
}

func (a *SeatAllocator) lastTurn(license string, grant seats.Grant) time.Time {
	if a.turns == nil {
		return time.Time{}
	}
	at, _ := a.turns.Get(turnKey{license, grant.UID})
	last, _ := at.(time.Time)
	return last
}

// hadTurn notes that a pod took its seats.
func (a *SeatAllocator) hadTurn(p *queuedPod, at time.Time) {
	if a.turns == nil {
		a.turns = lru.New(maxTurns)
	}
	for _, n := range p.needs {
		a.turns.Add(turnKey{n.license.Name, n.grant.UID}, at)
	}
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

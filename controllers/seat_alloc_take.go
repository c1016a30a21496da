package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/internal/seats"
)

// takeParallel is how many ledgers are written at once.
const takeParallel = 8

// taker is a pod that takes its seats.
type taker struct {
	queuedPod
	allocation
	// held counts the seats that it has; failed says that it will not get the rest.
	held   int
	failed bool
}

// take writes the seats of pods into the ledgers. Pods of a single licence share one write of its ledger, and ledgers are written
// beside each other; those that need several licences take them in the order of the licences' names. What a pod got and cannot
// use is given back in a later round. It returns the pods that workers are to look at: those that have all of their seats, and
// those that do not wait any more. By those the queue may know a pod that is gone, of which nobody else would take notice.
func (a *SeatAllocator) take(ctx context.Context, s *allocScene, chosen []queuedPod) (looks []types.NamespacedName, err error) {
	single, several := map[string][]*taker{}, map[string][]*taker{}
	var takers []*taker
	var errs []error
	for _, p := range chosen {
		t := &taker{queuedPod: p}
		var err error
		// The version must be read before anything is written: whoever gives a seat back touches the pod first.
		if t.version, err = a.versionOf(ctx, &p); err != nil || !a.Queue.begin(p.uid) {
			looks = append(looks, p.name)
			for _, n := range p.needs {
				s.left = append(s.left, n.license.Name) // others may have its seats
			}
			continue
		}
		takers = append(takers, t)
		if err := a.Interrupt.at(ctx, StepPlanned, p.name); err != nil {
			t.failed = true
			errs = append(errs, err)
			continue
		}
		into := single
		if len(p.needs) > 1 {
			into = several
		}
		for _, n := range p.needs {
			into[n.license.Name] = append(into[n.license.Name], t)
		}
	}
	var group errgroup.Group
	group.SetLimit(takeParallel)
	var mu sync.Mutex
	for license, takers := range single {
		group.Go(func() error {
			if err := a.takeIn(ctx, s, license, takers); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = group.Wait()
	for _, license := range slices.Sorted(maps.Keys(several)) {
		if err := a.takeIn(ctx, s, license, several[license]); err != nil {
			errs = append(errs, err)
		}
	}
	for _, t := range takers {
		if t.failed || t.held < len(t.needs) {
			a.Queue.release(t.uid)
			continue
		}
		t.taken = t.needs
		a.Queue.allocated(t.uid, t.allocation)
		a.hadTurn(&t.queuedPod, s.now)
		looks = append(looks, t.name)
	}
	a.noteUnseen(s, takers)
	return looks, errors.Join(errs...)
}

// takeIn takes seats of one licence, in one write.
func (a *SeatAllocator) takeIn(ctx context.Context, s *allocScene, license string, takers []*taker) error {
	takers = slices.DeleteFunc(slices.Clone(takers), func(t *taker) bool { return t.failed })
	// The limits go along in any case: those of the ledger may have been changed by hand.
	changes := []seats.Change{seats.Limit{License: s.licenses[license]}}
	for _, t := range takers {
		n := t.needs[slices.IndexFunc(t.needs, func(n seatNeed) bool { return n.license.Name == license })]
		changes = append(changes, seats.Take{
			Pod: t.uid, Grant: n.seatGrant(), GrantLimits: n.grant.Spec.Limits, Amount: n.amount,
			Generation: n.license.Generation, Since: s.now, Surge: surgeFor(n.license, s.surges[t.uid]),
		})
		if err := a.Interrupt.at(ctx, StepBeforeTake, t.name); err != nil {
			return failAll(takers, err)
		}
	}
	if len(takers) == 0 {
		return nil
	}
	doing, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	results, err := a.Book.Do(doing, license, changes...)
	if err != nil {
		return failAll(takers, fmt.Errorf("taking seats of licence %s: %w", license, err))
	}
	results = results[len(results)-len(takers):]
	for i, t := range takers {
		if !results[i].OK() {
			t.failed = true
			continue
		}
		t.held++
		if !results[i].Changed {
			t.version = "" // it had the seat before, and so the pod was read too late
		}
		if len(results[i].Confine) > 0 {
			t.confine = append(t.confine, results[i].Confine)
		}
		if err := a.Interrupt.at(ctx, StepAfterTake, t.name); err != nil {
			return failAll(takers, err)
		}
	}
	return nil
}

func failAll(takers []*taker, err error) error {
	for _, t := range takers {
		t.failed = true
	}
	return err
}

// noteUnseen notes what the view has to show before a licence is planned again.
func (a *SeatAllocator) noteUnseen(s *allocScene, takers []*taker) {
	if a.unseen == nil {
		a.unseen = map[string][]unseenSeat{}
	}
	for _, t := range takers {
		for _, n := range t.needs[:t.held] {
			a.unseen[n.license.Name] = append(a.unseen[n.license.Name], unseenSeat{pod: t.uid, at: s.now})
		}
	}
}

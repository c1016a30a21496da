package main

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/bench/cluster"
)

// seatsSaid is what the operator says of seats in the status of a licence or grant.
type seatsSaid struct {
	seats *v1alpha1.SeatStatus
	usage v1alpha1.UsageStatus
}

// seatStatuses are those of licences and grants, by where these are stored, as the operator has written them by the time
// at which all pods run: what it costs to write them is not what is measured.
type seatStatuses struct {
	mu    sync.Mutex
	byKey map[string]seatsSaid
}

func (s *seatStatuses) add(license *v1alpha1.ModelLicense, ledger *seats.Ledger, pods map[types.UID]*corev1.Pod) {
	now := time.Now()
	said := func(inUse, limits corev1.ResourceList) *v1alpha1.SeatStatus {
		used := inUse[corev1.ResourcePods]
		status := &v1alpha1.SeatStatus{Summary: used.String(), InUse: inUse, Limits: limits}
		if limit, ok := limits[corev1.ResourcePods]; ok {
			status.Summary = fmt.Sprintf("%s/%s", used.String(), limit.String())
		}
		return status
	}
	ofLicense := said(ledger.InUse(), license.Spec.Terms.Limits)
	for _, h := range ledger.Holders() {
		ofLicense.Holders = append(ofLicense.Holders, v1alpha1.SeatHolder{
			UID: string(h.Pod), Namespace: h.Grant.Namespace, Pod: pods[h.Pod].Name, Node: h.Node, Since: metav1.NewTime(h.Since),
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byKey[cluster.StorageKey(license)] = seatsSaid{ofLicense, ledger.Usage(now)}
	for _, g := range ledger.Grants() {
		grant := &v1alpha1.ModelGrant{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name}}
		s.byKey[cluster.StorageKey(grant)] = seatsSaid{said(ledger.InUseBy(g), nil), ledger.UsageOf(g, now)}
	}
}

func (s *seatStatuses) amend(o client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said, ok := s.byKey[cluster.StorageKey(o)]
	if !ok {
		return
	}
	switch o := o.(type) {
	case *v1alpha1.ModelLicense:
		o.Status.Seats, o.Status.Usage = said.seats, &said.usage
	case *v1alpha1.ModelGrant:
		o.Status.Seats, o.Status.Usage = said.seats, &said.usage
	}
}

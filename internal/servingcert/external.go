package servingcert

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// BundleName is the ConfigMap whose entry ca.crt holds the CAs to trust: in the node driver's namespace for the driver
// and, where somebody else fills the Secret, also in the operator's own, for the operator's replicas.
const BundleName = "modelrights-ca"

// CarryOver says what the ConfigMap in the operator's namespace should hold where somebody else exchanges CA and leaf in
// one write, as cert-manager does. The CAs that were published before stay trusted beside those of the Secret for the
// overlap, or until they end; a replica that still serves the former leaf meanwhile is so trusted by who knows the new
// CA already. next is when to ask again; zero: when something changes. A Secret without CAs changes nothing.
func CarryOver(published map[string]string, secret []byte, policy Policy, now time.Time) (bundle map[string]string, next time.Time, err error) {
	current := parseCertificates(secret)
	if len(current) == 0 {
		return maps.Clone(published), time.Time{}, nil
	}
	var times schedule
	if json.Unmarshal([]byte(published[scheduleKey]), &times) != nil {
		times = schedule{}
	}
	var state State
	for _, ca := range current {
		state.Trusted = append(state.Trusted, TrustedCA{Certificate: ca})
	}
	kept := len(current)
	for _, ca := range trustedOf([]byte(published[CACertKey]), times) {
		if contains(current, ca.Certificate) {
			continue
		}
		if retire := now.Add(policy.overlap()); ca.Retire.IsZero() || ca.Retire.After(retire) {
			ca.Retire = retire
		}
		if ca.Certificate.NotAfter.Before(ca.Retire) {
			ca.Retire = ca.Certificate.NotAfter
		}
		if !ca.Retire.After(now) || len(state.Trusted) >= kept+maxTrusted {
			continue
		}
		if next.IsZero() || ca.Retire.Before(next) {
			next = ca.Retire
		}
		state.Trusted = append(state.Trusted, ca)
	}
	text, err := encodeSchedule(state.Trusted, time.Time{})
	if err != nil {
		return nil, time.Time{}, err
	}
	return map[string]string{
		CACertKey:   string(encodeCertificates(state.certificates()...)),
		scheduleKey: string(text),
	}, next, nil
}

// WatchCarried has the keeper add to its bundle what the ConfigMap in the operator's namespace carries over. Call it
// before the cache starts, where somebody else fills the Secret.
func (k *Keeper) WatchCarried(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &corev1.ConfigMap{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("informer for the CAs carried over: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    k.carry,
		UpdateFunc: func(_, o any) { k.carry(o) },
	})
	if err != nil {
		return fmt.Errorf("watching the CAs carried over: %w", err)
	}
	return nil
}

// carry adds the ConfigMap's CAs to those of the Secret.
func (k *Keeper) carry(object any) {
	bundle, ok := object.(*corev1.ConfigMap)
	if !ok || client.ObjectKeyFromObject(bundle) != (client.ObjectKey{Namespace: k.secret.Namespace, Name: BundleName}) {
		return
	}
	k.mu.Lock()
	before := string(k.bundle)
	k.carried = parseCertificates([]byte(bundle.Data[CACertKey]))
	k.rebundle()
	changed := before != string(k.bundle)
	k.mu.Unlock()
	if changed {
		k.changed()
	}
}

// Package servingcert is the operator's own certification authority and the keeper of the certificate with which it
// serves its webhooks and the key service. CA and certificate lie in a Secret, which the operator itself fills, or
// cert-manager.
package servingcert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// SecretName is the Secret in the operator's namespace that holds the CA and the serving certificate.
const SecretName = "modelrights-serving-cert"

// recheck is how often a keeper that holds a new certificate back looks whether it may serve it.
const recheck = 5 * time.Second

var (
	// errNoCertificate says that no usable certificate has been seen yet.
	errNoCertificate = errors.New("the serving certificate is not there yet")
	errNoBundle      = errors.New("the bundle holds no CA")
)

// KeeperOptions are what a Keeper needs.
type KeeperOptions struct {
	Policy Policy
	Clock  clock.PassiveClock
	Log    logr.Logger
	// Metrics may be nil.
	Metrics *Metrics
}

// Keeper serves the newest certificate of the Secret from memory, without the minute that kubelet takes to bring a
// changed Secret into a mounted volume. A certificate of a CA that consumers cannot know yet is held back for the
// propagation time, as long as the one before still serves. It is safe for concurrent use.
type Keeper struct {
	options KeeperOptions
	secret  client.ObjectKey
	names   []string

	mu        sync.Mutex
	serving   *tls.Certificate
	candidate *tls.Certificate // newer than serving, and held back; nil: none
	checkedAt time.Time
	own       []*x509.Certificate // of the Secret
	carried   []*x509.Certificate // that the publisher of an external CA carries on
	bundle    []byte
	since     map[[sha256.Size]byte]time.Time // when a CA came into the bundle; zero if the keeper found it there
	onChange  []func()
	onTouch   []func()
}

// NewKeeper returns a keeper of the Secret in the operator's namespace.
func NewKeeper(options KeeperOptions) *Keeper {
	return &Keeper{
		options: options,
		secret:  client.ObjectKey{Namespace: options.Policy.Names.Namespace, Name: SecretName},
		names:   options.Policy.Names.dnsNames(),
	}
}

// OnChange has f called after the bundle or the certificate that is served has changed. f is called by whoever noticed,
// and must return at once. Call it before the keeper watches.
func (k *Keeper) OnChange(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.onChange = append(k.onChange, f)
}

// onTouched has f called after every event of the Secret.
func (k *Keeper) onTouched(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.onTouch = append(k.onTouch, f)
}

// Watch registers the keeper with the informer for Secrets. Call it before the cache starts.
func (k *Keeper) Watch(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &corev1.Secret{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("informer for the serving certificate: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    k.observe,
		UpdateFunc: func(_, o any) { k.observe(o) },
		DeleteFunc: k.vanished,
	})
	if err != nil {
		return fmt.Errorf("watching the serving certificate: %w", err)
	}
	return nil
}

// observe takes over what the Secret holds as far as it is usable, and keeps what it has otherwise: a Secret that is
// emptied or deleted interrupts nothing until it is made again.
func (k *Keeper) observe(object any) {
	secret, ok := object.(*corev1.Secret)
	if !ok || client.ObjectKeyFromObject(secret) != k.secret {
		return
	}
	if k.take(secret) {
		k.changed()
	}
	k.touched()
}

func (k *Keeper) take(secret *corev1.Secret) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	serving, bundle := k.serving, k.bundle
	if own := parseCertificates(secret.Data[CACertKey]); len(own) > 0 {
		k.own = own
		k.rebundle()
	}
	if len(secret.Data[CertKey]) > 0 {
		k.offer(secret.Data[CertKey], secret.Data[PrivateKeyKey])
	}
	return serving != k.serving || !bytes.Equal(bundle, k.bundle)
}

// offer makes the certificate the candidate, unless it is served already.
func (k *Keeper) offer(certificate, key []byte) {
	offered, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		k.options.Log.Error(err, "the serving certificate cannot be used; keeping the one before", "secret", k.secret)
		return
	}
	k.candidate = nil
	if k.serving == nil || !k.serving.Leaf.Equal(offered.Leaf) {
		k.candidate = &offered
	}
	k.choose(k.options.Clock.Now())
	if k.candidate != nil {
		k.options.Log.Info("a new serving certificate waits until its CA is known everywhere", "secret", k.secret)
	}
}

// vanished keeps what there is, and lets the authority know.
func (k *Keeper) vanished(object any) {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	if secret, ok := object.(*corev1.Secret); ok && client.ObjectKeyFromObject(secret) == k.secret {
		k.options.Log.Info("the Secret of the serving certificate is gone; serving on with what it held", "secret", k.secret)
		k.touched()
	}
}

// changed tells of new times and calls the listeners.
func (k *Keeper) changed() {
	k.mu.Lock()
	listeners := k.onChange
	k.mu.Unlock()
	k.options.Metrics.show(k.expiries())
	for _, listener := range listeners {
		listener()
	}
}

func (k *Keeper) touched() {
	k.mu.Lock()
	listeners := k.onTouch
	k.mu.Unlock()
	for _, listener := range listeners {
		listener()
	}
}

// rebundle makes the bundle and notes since when each CA has been in it.
func (k *Keeper) rebundle() {
	now, first := k.options.Clock.Now(), k.since == nil
	since := map[[sha256.Size]byte]time.Time{}
	var all []*x509.Certificate
	for _, ca := range append(append([]*x509.Certificate{}, k.own...), k.carried...) {
		id := fingerprint(ca)
		if _, twice := since[id]; twice {
			continue
		}
		all = append(all, ca)
		if known, ok := k.since[id]; ok || first {
			since[id] = known
		} else {
			since[id] = now
		}
	}
	k.since, k.bundle = since, encodeCertificates(all...)
}

// choose decides whether the candidate is served from now on.
func (k *Keeper) choose(now time.Time) {
	k.checkedAt = now
	if k.candidate == nil {
		return
	}
	var all, known []*x509.Certificate
	for _, ca := range parseCertificates(k.bundle) {
		all = append(all, ca)
		if now.Sub(k.since[fingerprint(ca)]) >= k.options.Policy.Propagation {
			known = append(known, ca)
		}
	}
	takes := func(certificate *tls.Certificate, trusted []*x509.Certificate) bool {
		return verify(certificate, trusted, k.names, now) == nil
	}
	switch {
	case k.serving == nil || takes(k.candidate, known):
	case takes(k.serving, all):
		return
	case takes(k.candidate, all):
	case validAt(k.serving.Leaf, now) && !validAt(k.candidate.Leaf, now):
		return
	}
	k.serving, k.candidate = k.candidate, nil
	k.options.Log.Info("serving certificate loaded", "secret", k.secret, "issuer", k.serving.Leaf.Issuer.String(),
		"notAfter", k.serving.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// current is the certificate to serve now.
func (k *Keeper) current() (served *tls.Certificate, bundle []byte, now time.Time) {
	now = k.options.Clock.Now()
	k.mu.Lock()
	before := k.serving
	if since := now.Sub(k.checkedAt); k.candidate != nil && (since >= recheck || since < 0) {
		k.choose(now)
	}
	served, bundle = k.serving, k.bundle
	k.mu.Unlock()
	if served != before {
		k.changed()
	}
	return served, bundle, now
}

// GetCertificate returns the certificate to serve now, for tls.Config. The error means that there is none yet.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if served, _, _ := k.current(); served != nil {
		return served, nil
	}
	return nil, errNoCertificate
}

// Ready is a readiness check: it fails until there is a certificate, and when it is over.
func (k *Keeper) Ready(*http.Request) error {
	served, _, now := k.current()
	if served == nil {
		return errNoCertificate
	}
	if !validAt(served.Leaf, now) {
		return fmt.Errorf("the serving certificate is valid from %s to %s only",
			served.Leaf.NotBefore.UTC().Format(time.RFC3339), served.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// CABundle returns the CAs that consumers should trust, PEM; nil until there are any. It is the same in every replica that
// has seen the same objects. The caller must not change it.
func (k *Keeper) CABundle() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bundle
}

// Verifies says whether a consumer that trusts this bundle, PEM, takes the certificate that this replica serves now, under
// each DNS name of the Services. nil: it does.
func (k *Keeper) Verifies(bundlePEM []byte) error {
	served, _, now := k.current()
	if served == nil {
		return errNoCertificate
	}
	trusted := parseCertificates(bundlePEM)
	if len(trusted) == 0 {
		return errNoBundle
	}
	if err := verify(served, trusted, k.names, now); err != nil {
		return fmt.Errorf("the bundle does not verify the serving certificate: %w", err)
	}
	return nil
}

// expiries are when the served certificate ends, and the CA by which the bundle verifies it. Zero: there is none.
func (k *Keeper) expiries() (ca, leaf time.Time) {
	served, bundle, _ := k.current()
	if served == nil {
		return ca, leaf
	}
	for _, candidate := range parseCertificates(bundle) {
		moment := served.Leaf.NotBefore.Add(time.Second)
		if verify(served, []*x509.Certificate{candidate}, nil, moment) == nil && candidate.NotAfter.After(ca) {
			ca = candidate.NotAfter
		}
	}
	return ca, served.Leaf.NotAfter
}

// TrimSecret is a cache transform that drops the contents of every Secret but that of the serving certificate, and the
// copies of them that clients leave in annotations: keys of models are read at the moment of their release, and lie in
// no cache. Of the serving certificate's, the CA's keys are dropped.
func TrimSecret(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetAnnotations(nil)
		o.SetManagedFields(nil)
	}
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return object, nil
	}
	if secret.Name != SecretName {
		secret.Data = nil
	}
	delete(secret.Data, caPrivateKeyKey)
	delete(secret.Data, nextCAPrivateKeyKey)
	return object, nil
}

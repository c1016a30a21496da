// Package servingcert holds the certificate with which the operator serves its webhooks and the key service, and brings
// its CA to those who must trust it. The certificate lives in a Secret, made by the operator itself or by cert-manager.
package servingcert

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Entries of the Secret, as cert-manager and kubernetes.io/tls name them.
const (
	CACertKey     = "ca.crt"
	CertKey       = corev1.TLSCertKey
	PrivateKeyKey = corev1.TLSPrivateKeyKey
)

// SecretName is the Secret in the operator's namespace that holds the CA and the serving certificate.
const SecretName = "modelrights-serving-cert"

// errNoCertificate says that no usable certificate has been seen yet.
var errNoCertificate = errors.New("the serving certificate is not there yet")

// Keeper serves the newest certificate of the Secret from memory, without the minute that kubelet takes to bring a
// changed Secret into a mounted volume. It is safe for concurrent use.
type Keeper struct {
	secret  client.ObjectKey
	dir     string
	log     logr.Logger
	current atomic.Pointer[tls.Certificate]
}

// NewKeeper returns a keeper of the Secret. Into dir it writes the certificate, without its key, for the rotator, which
// waits for the file to appear.
func NewKeeper(namespace, dir string, log logr.Logger) *Keeper {
	return &Keeper{secret: client.ObjectKey{Namespace: namespace, Name: SecretName}, dir: dir, log: log}
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
	})
	if err != nil {
		return fmt.Errorf("watching the serving certificate: %w", err)
	}
	return nil
}

// observe takes a usable certificate over and keeps the one it has otherwise: a Secret that is emptied or deleted
// interrupts nothing until it is made again.
func (k *Keeper) observe(object any) {
	secret, ok := object.(*corev1.Secret)
	if !ok || client.ObjectKeyFromObject(secret) != k.secret || len(secret.Data[CertKey]) == 0 {
		return
	}
	certificate, err := tls.X509KeyPair(secret.Data[CertKey], secret.Data[PrivateKeyKey])
	if err != nil {
		k.log.Error(err, "the serving certificate cannot be used; keeping the one before", "secret", k.secret)
		return
	}
	if err := os.WriteFile(filepath.Join(k.dir, CertKey), secret.Data[CertKey], 0o600); err != nil {
		k.log.Error(err, "cannot write the serving certificate", "dir", k.dir)
		return
	}
	k.current.Store(&certificate)
	k.log.Info("serving certificate loaded", "secret", k.secret, "notAfter", certificate.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// GetCertificate returns the newest certificate, for tls.Config. The error means that there is none yet.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c, nil
	}
	return nil, errNoCertificate
}

// Ready is a readiness check: it fails until there is a certificate.
func (k *Keeper) Ready(*http.Request) error {
	_, err := k.GetCertificate(nil)
	return err
}

// TrimSecret is a cache transform that drops the contents of every Secret but that of the serving certificate, and the
// copies of them that clients leave in annotations: keys of models are read at the moment of their release, and lie in
// no cache.
func TrimSecret(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetAnnotations(nil)
		o.SetManagedFields(nil)
	}
	if secret, ok := object.(*corev1.Secret); ok && secret.Name != SecretName {
		secret.Data = nil
	}
	return object, nil
}

// EnsureSecret creates the Secret, empty, unless it is there: the rotator fills it, and creates none.
func EnsureSecret(ctx context.Context, c client.Client, namespace string) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretName}}
	if err := c.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the Secret %s/%s for the serving certificate: %w", namespace, SecretName, err)
	}
	return nil
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/test/bench/cluster"
)

const (
	benchNamespace = "modelrights-bench"
	emptyService   = "empty-webhook"
)

// serveEmpty answers every admission review with a yes, and reads of it only what the answer must name: no webhook can
// do less. It serves with the certificate and the key in dir until the process is ended.
func serveEmpty(address, dir string) error {
	server := &http.Server{
		Addr:              address,
		Handler:           http.HandlerFunc(allow),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13},
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	return server.ListenAndServeTLS(filepath.Join(dir, corev1.TLSCertKey), filepath.Join(dir, corev1.TLSPrivateKeyKey))
}

func allow(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Request struct {
			UID types.UID `json:"uid"`
		} `json:"request"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: &admissionv1.AdmissionResponse{UID: asked.Request.UID, Allowed: true},
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the API server tells of an answer that does not arrive
}

// startEmpty starts the empty webhook as a process of its own and has the API server call it for pods of its namespace.
func startEmpty(ctx context.Context, p *cluster.ControlPlane, dir string) (stop func() error, err error) {
	port, err := cluster.FreePort(p.Address)
	if err != nil {
		return nil, err
	}
	if err := p.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: benchNamespace}}); err != nil {
		return nil, err
	}
	ca, err := writeCertificate(dir, fmt.Sprintf("%s.%s.svc", emptyService, benchNamespace))
	if err != nil {
		return nil, fmt.Errorf("certificate of the empty webhook: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(p.Address, fmt.Sprint(port))
	process := exec.Command(self, "-serve-empty", address, "-dir", dir)
	process.Stderr = os.Stderr
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("starting the empty webhook: %w", err)
	}
	stop = func() error {
		err := process.Process.Kill()
		process.Wait() //nolint:errcheck // it was killed
		return err
	}
	if err := waitListening(ctx, address); err != nil {
		return nil, errors.Join(fmt.Errorf("the empty webhook does not listen: %w", err), stop())
	}
	if err := errors.Join(p.Service(ctx, benchNamespace, emptyService, "webhook", port), p.Create(ctx, emptyMutatingConfiguration(ca), emptyValidatingConfiguration(ca))); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

func waitListening(ctx context.Context, address string) error {
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, nil //nolint:nilerr // it is tried again
		}
		return true, connection.Close()
	})
}

// The configurations of the empty webhooks are as ours, without conditions.
func emptyMutatingConfiguration(ca []byte) *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "bench-empty"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: emptyMutating, ClientConfig: emptyClient("/mutate", ca), Rules: podsCreate(), NamespaceSelector: inNamespace(namespaceEmpty),
			ReinvocationPolicy: ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy), SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds: ptr.To(int32(3)), AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

func emptyValidatingConfiguration(ca []byte) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "bench-empty"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: emptyValidating, ClientConfig: emptyClient("/validate", ca), Rules: podsCreate(), NamespaceSelector: inNamespace(namespaceEmpty),
			SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), TimeoutSeconds: ptr.To(int32(3)), AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

func emptyClient(path string, ca []byte) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{
		Service:  &admissionregistrationv1.ServiceReference{Namespace: benchNamespace, Name: emptyService, Path: &path},
		CABundle: ca,
	}
}

func podsCreate() []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: ptr.To(admissionregistrationv1.NamespacedScope),
		},
	}}
}

func inNamespace(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}}
}

// writeCertificate writes a certificate for the name, signed by itself, and its key into dir, and returns it.
func writeCertificate(dir, name string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, errors.Join(
		os.WriteFile(filepath.Join(dir, corev1.TLSCertKey), certificate, 0o600),
		os.WriteFile(filepath.Join(dir, corev1.TLSPrivateKeyKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

package servingcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const namespace = "modelrights-system"

// secretWith is the Secret with a new certificate of that serial number.
func secretWith(t *testing.T, serial int64) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretName},
		Data: map[string][]byte{
			CertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
			PrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		},
	}
}

func TestKeeper(t *testing.T) {
	without := func(entry string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Data[entry] = nil }
	}
	tests := map[string]struct {
		change func(*corev1.Secret)
		served int64
	}{
		"a new certificate is served":                      {change: func(*corev1.Secret) {}, served: 2},
		"another Secret is none of ours":                   {change: func(s *corev1.Secret) { s.Name = "other" }, served: 1},
		"another namespace is none of ours":                {change: func(s *corev1.Secret) { s.Namespace = "other" }, served: 1},
		"an emptied Secret interrupts nothing":             {change: func(s *corev1.Secret) { s.Data = nil }, served: 1},
		"a certificate without its key is not taken":       {change: without(PrivateKeyKey), served: 1},
		"a certificate that is garbage is not taken":       {change: func(s *corev1.Secret) { s.Data[CertKey] = []byte("garbage") }, served: 1},
		"a key of another certificate is not taken":        {change: func(s *corev1.Secret) { s.Data[PrivateKeyKey] = secretWith(t, 3).Data[PrivateKeyKey] }, served: 1},
		"a Secret that lost its certificate is waited for": {change: without(CertKey), served: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			k := NewKeeper(namespace, dir, logr.Discard())
			if k.Ready(nil) == nil {
				t.Fatal("ready before there is a certificate")
			}
			k.observe(secretWith(t, 1))
			secret := secretWith(t, 2)
			tc.change(secret)
			k.observe(secret)
			if err := k.Ready(nil); err != nil {
				t.Fatal(err)
			}
			served, err := k.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := served.Leaf.SerialNumber.Int64(); got != tc.served {
				t.Errorf("serves certificate %d, want %d", got, tc.served)
			}
			written, err := os.ReadFile(filepath.Join(dir, CertKey))
			if err != nil || !strings.Contains(string(written), "CERTIFICATE") || strings.Contains(string(written), "PRIVATE") {
				t.Errorf("the directory must hold the certificate and no key: %q, %v", written, err)
			}
		})
	}
}

func TestTrimSecret(t *testing.T) {
	modelKey := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "acme-chat-7b-key"}, Data: map[string][]byte{"key": []byte("AGE-SECRET-KEY-1")}}
	if _, err := TrimSecret(modelKey); err != nil || modelKey.Data != nil {
		t.Error("the key of a model must not lie in the cache")
	}
	applied := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		corev1.LastAppliedConfigAnnotation: "AGE-SECRET-KEY-1",
	}}}
	if _, err := TrimSecret(applied); err != nil || applied.Annotations != nil {
		t.Error("nor may the copy that kubectl apply leaves in an annotation")
	}
	serving := secretWith(t, 1)
	if _, err := TrimSecret(serving); err != nil || len(serving.Data) == 0 {
		t.Error("the serving certificate must stay in the cache")
	}
}

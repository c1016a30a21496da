package servingcert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Entries of the Secret. The first three are named as cert-manager and kubernetes.io/tls name them; with cert-manager
// there are no others.
const (
	// CACertKey holds every CA that is still trusted, PEM, newest first.
	CACertKey = "ca.crt"
	// CertKey holds the leaf, PEM.
	CertKey = corev1.TLSCertKey
	// PrivateKeyKey holds the leaf's key, PEM.
	PrivateKeyKey = corev1.TLSPrivateKeyKey

	caPrivateKeyKey     = "ca.key"
	nextCAPrivateKeyKey = "ca-next.key"
	scheduleKey         = "schedule.json"
)

// TrustedCA is a CA of the bundle.
type TrustedCA struct {
	Certificate *x509.Certificate
	// Retire is when it leaves the bundle. Zero for a CA that signs or is going to.
	Retire time.Time
}

// State is what the Secret holds, as far as it can be used.
type State struct {
	// Trusted is the bundle, newest first.
	Trusted []TrustedCA
	// Active signs leaves. Nil: it has no key.
	Active *CA
	// Next is the CA that will sign after Active. It is trusted already. Nil: none is staged.
	Next *CA
	// NextPublished is since when all consumers are known to be told to trust Next. Zero: not yet.
	NextPublished time.Time
	// Leaf is the serving certificate with its key. Nil: there is none.
	Leaf *tls.Certificate
}

// schedule is the form of scheduleKey.
type schedule struct {
	NextPublished *time.Time `json:"nextPublished,omitempty"`
	// Retire is by SHA-256 of the certificate, hexadecimal.
	Retire map[string]time.Time `json:"retire,omitempty"`
}

// parseState reads the Secret's contents. The error says what of it cannot be used, without quoting it; the state holds
// the rest.
func parseState(data map[string][]byte) (State, error) {
	var state State
	var errs []error
	var times schedule
	if text := data[scheduleKey]; len(text) > 0 {
		if err := json.Unmarshal(text, &times); err != nil {
			errs = append(errs, fmt.Errorf("%s: not a schedule", scheduleKey))
			times = schedule{}
		}
	}
	state.Trusted = trustedOf(data[CACertKey], times)
	if text := data[CACertKey]; len(text) > 0 && len(state.Trusted) == 0 {
		errs = append(errs, fmt.Errorf("%s: holds no certificate", CACertKey))
	}
	for entry, ca := range map[string]**CA{caPrivateKeyKey: &state.Active, nextCAPrivateKeyKey: &state.Next} {
		if len(data[entry]) == 0 {
			continue
		}
		var err error
		if *ca, err = caOf(state.Trusted, data[entry]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", entry, err))
		}
	}
	if state.Next != nil && times.NextPublished != nil {
		state.NextPublished = *times.NextPublished
	}
	if len(data[CertKey]) > 0 || len(data[PrivateKeyKey]) > 0 {
		leaf, err := tls.X509KeyPair(data[CertKey], data[PrivateKeyKey])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s and %s: %w", CertKey, PrivateKeyKey, err))
		} else {
			state.Leaf = &leaf
		}
	}
	return state, errors.Join(errs...)
}

func trustedOf(bundle []byte, times schedule) []TrustedCA {
	certificates := parseCertificates(bundle)
	trusted := make([]TrustedCA, 0, len(certificates))
	for _, certificate := range certificates {
		trusted = append(trusted, TrustedCA{Certificate: certificate, Retire: times.Retire[retireKey(certificate)]})
	}
	return trusted
}

func retireKey(certificate *x509.Certificate) string {
	sum := fingerprint(certificate)
	return hex.EncodeToString(sum[:])
}

// data is the Secret's contents.
func (s State) data() (map[string][]byte, error) {
	data := map[string][]byte{CACertKey: encodeCertificates(s.certificates()...)}
	var errs []error
	for entry, ca := range map[string]*CA{caPrivateKeyKey: s.Active, nextCAPrivateKeyKey: s.Next} {
		if ca == nil {
			continue
		}
		key, err := encodeKey(ca.Key)
		data[entry], errs = key, append(errs, err)
	}
	if s.Leaf != nil {
		key, err := encodeKey(s.Leaf.PrivateKey)
		data[PrivateKeyKey], errs = key, append(errs, err)
		for _, der := range s.Leaf.Certificate {
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("encoding the serving certificate: %w", err)
			}
			data[CertKey] = append(data[CertKey], encodeCertificates(certificate)...)
		}
	}
	times, err := encodeSchedule(s.Trusted, s.NextPublished)
	data[scheduleKey] = times
	return data, errors.Join(append(errs, err)...)
}

func encodeSchedule(trusted []TrustedCA, nextPublished time.Time) ([]byte, error) {
	times := schedule{Retire: map[string]time.Time{}}
	if !nextPublished.IsZero() {
		published := nextPublished.UTC()
		times.NextPublished = &published
	}
	for _, ca := range trusted {
		if !ca.Retire.IsZero() {
			times.Retire[retireKey(ca.Certificate)] = ca.Retire.UTC()
		}
	}
	text, err := json.Marshal(times)
	if err != nil {
		return nil, fmt.Errorf("encoding the schedule: %w", err)
	}
	return text, nil
}

// certificates are the bundle's.
func (s State) certificates() []*x509.Certificate {
	certificates := make([]*x509.Certificate, len(s.Trusted))
	for i, ca := range s.Trusted {
		certificates[i] = ca.Certificate
	}
	return certificates
}

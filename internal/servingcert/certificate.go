package servingcert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

const (
	blockCertificate = "CERTIFICATE"
	blockPrivateKey  = "PRIVATE KEY" // PKCS #8, RFC 5958
	caCommonName     = "modelrights-ca"
)

// CA is a certification authority with its key.
type CA struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// newCA makes a CA that signs itself: ECDSA P-256, no CAs below it, and leaves for the domains of the operator's Services
// alone (name constraints, RFC 5280 section 4.2.1.10). Its subject holds the moment, as subjects of different CAs should
// differ (section 4.1.2.6). The serial number is random (crypto/x509 draws it).
func newCA(policy Policy, now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the CA's key: %w", err)
	}
	everyAddress := []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 8*net.IPv4len)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 8*net.IPv6len)},
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: fmt.Sprintf("%s@%d", caCommonName, now.Unix())},
		NotBefore:                   now.Add(-policy.Backdate),
		NotAfter:                    now.Add(policy.CALifetime),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         policy.Names.domains(),
		ExcludedIPRanges:            everyAddress,
	}
	certificate, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the CA: %w", err)
	}
	return &CA{Certificate: certificate, Key: key}, nil
}

// newLeaf makes a serving certificate, ECDSA P-256, for the Services' DNS names and for servers alone.
func newLeaf(ca *CA, policy Policy, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the serving certificate's key: %w", err)
	}
	names := policy.Names.dnsNames()
	if len(names) == 0 {
		return nil, errors.New("a serving certificate needs a name")
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: policy.Names.Services[0]},
		DNSNames:              names,
		NotBefore:             now.Add(-policy.Backdate),
		NotAfter:              leafEnd(ca, policy, now),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	certificate, err := create(template, ca.Certificate, key.Public(), ca.Key)
	if err != nil {
		return nil, fmt.Errorf("signing the serving certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}, nil
}

// leafEnd is when a leaf ends that the CA signs now.
func leafEnd(ca *CA, policy Policy, now time.Time) time.Time {
	if end := now.Add(policy.LeafLifetime); end.Before(ca.Certificate.NotAfter) {
		return end
	}
	return ca.Certificate.NotAfter
}

func create(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// validAt says whether the moment lies within the certificate's life.
func validAt(certificate *x509.Certificate, now time.Time) bool {
	return !now.Before(certificate.NotBefore) && !now.After(certificate.NotAfter)
}

// verify says whether a client that trusts these CAs takes the certificate, now, for each of the DNS names.
func verify(leaf *tls.Certificate, trusted []*x509.Certificate, names []string, now time.Time) error {
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ca := range trusted {
		options.Roots.AddCert(ca)
	}
	for _, der := range leaf.Certificate[1:] {
		if intermediate, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(intermediate)
		}
	}
	if _, err := leaf.Leaf.Verify(options); err != nil {
		return err
	}
	for _, name := range names {
		if err := leaf.Leaf.VerifyHostname(name); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint identifies a certificate.
func fingerprint(certificate *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(certificate.Raw)
}

func contains(certificates []*x509.Certificate, wanted *x509.Certificate) bool {
	return slices.ContainsFunc(certificates, wanted.Equal)
}

// parseCertificates returns the certificates of PEM text, each once. What is no certificate is left out.
func parseCertificates(text []byte) []*x509.Certificate {
	var found []*x509.Certificate
	seen := map[[sha256.Size]byte]bool{}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return found
		}
		if block.Type != blockCertificate {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || seen[fingerprint(certificate)] {
			continue
		}
		seen[fingerprint(certificate)] = true
		found = append(found, certificate)
	}
}

// Bundle returns the certificates of PEM text and nothing else of it, for publication; nil if there are none.
func Bundle(text []byte) []byte { return encodeCertificates(parseCertificates(text)...) }

// Trusts says whether the certificate is in the bundle, PEM.
func Trusts(bundle []byte, certificate *x509.Certificate) bool {
	return contains(parseCertificates(bundle), certificate)
}

func encodeCertificates(certificates ...*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, certificate := range certificates {
		_ = pem.Encode(&text, &pem.Block{Type: blockCertificate, Bytes: certificate.Raw}) // a Buffer does not fail
	}
	return text.Bytes()
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPrivateKey, Bytes: der}), nil
}

// caOf finds the CA that the key belongs to among the trusted ones. Errors never quote the key.
func caOf(trusted []TrustedCA, key []byte) (*CA, error) {
	for _, candidate := range trusted {
		pair, err := tls.X509KeyPair(encodeCertificates(candidate.Certificate), key)
		if err != nil {
			continue
		}
		signer, ok := pair.PrivateKey.(crypto.Signer)
		if ok && candidate.Certificate.IsCA {
			return &CA{Certificate: candidate.Certificate, Key: signer}, nil
		}
	}
	return nil, errors.New("it is the key of no CA in " + CACertKey)
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"time"
)

// certificateLife is how long certificates last: longer than any cluster for tests should.
const certificateLife = 365 * 24 * time.Hour

// authority signs certificates. The three authorities are apart so that a certificate that Kubernetes signs for anyone
// opens neither etcd nor the aggregation layer.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// leaf is one certificate to be made.
type leaf struct {
	file          string // without .crt and .key
	name          string
	organizations []string
	server        bool
	client        bool
	dns           []string
	addresses     []string
}

// writePKI makes all keys and certificates anew, and the key that signs service account tokens.
func writePKI(l Layout, s Settings, now time.Time) error {
	for name, leaves := range certificates(s) {
		ca, err := newAuthority(l, name, now)
		if err != nil {
			return err
		}
		for _, wanted := range leaves {
			if err := ca.issue(l, wanted, now); err != nil {
				return err
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	if err := writePEM(l.PKI("service-account.pub"), "PUBLIC KEY", public, 0o644); err != nil {
		return err
	}
	return writeKey(l.PKI("service-account.key"), key)
}

// certificates lists what each authority signs.
func certificates(s Settings) map[string][]leaf {
	return map[string][]leaf{
		"ca": {
			{file: "kube-apiserver", name: "kube-apiserver", server: true,
				dns:       []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
				addresses: []string{loopback, s.NodeAddress, s.ServiceAddress(1)}},
			{file: "kubelet-server", name: "system:node:" + s.NodeName, organizations: []string{"system:nodes"}, server: true,
				dns: []string{s.NodeName}, addresses: []string{s.NodeAddress}},
			{file: "admin", name: "admin", organizations: []string{"system:masters"}, client: true},
			{file: "apiserver-kubelet-client", name: "kube-apiserver-kubelet-client", organizations: []string{"system:masters"}, client: true},
			{file: "kube-controller-manager", name: "system:kube-controller-manager", client: true},
			{file: "kube-scheduler", name: "system:kube-scheduler", client: true},
			{file: "kubelet", name: "system:node:" + s.NodeName, organizations: []string{"system:nodes"}, client: true},
			{file: "kube-proxy", name: "system:kube-proxy", client: true},
		},
		"etcd-ca": {
			{file: "etcd", name: "etcd", server: true, client: true, dns: []string{"localhost"}, addresses: []string{loopback}},
			{file: "etcd-client", name: "kube-apiserver", client: true},
		},
		"front-proxy-ca": {
			{file: "front-proxy-client", name: "front-proxy-client", client: true},
		},
	}
}

func newAuthority(l Layout, name string, now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("authority %s: %w", name, err)
	}
	unsigned, err := newCertificate(name, now)
	if err != nil {
		return authority{}, err
	}
	unsigned.IsCA, unsigned.BasicConstraintsValid = true, true
	unsigned.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, unsigned, unsigned, &key.PublicKey, key)
	if err != nil {
		return authority{}, fmt.Errorf("authority %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("authority %s: %w", name, err)
	}
	if err := writePEM(l.PKI(name+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return authority{}, err
	}
	return authority{certificate, key}, writeKey(l.PKI(name+".key"), key)
}

func (a authority) issue(l Layout, wanted leaf, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", wanted.file, err)
	}
	unsigned, err := newCertificate(wanted.name, now)
	if err != nil {
		return err
	}
	unsigned.Subject.Organization = wanted.organizations
	unsigned.KeyUsage = x509.KeyUsageDigitalSignature
	unsigned.DNSNames = wanted.dns
	for _, address := range wanted.addresses {
		unsigned.IPAddresses = append(unsigned.IPAddresses, net.ParseIP(address))
	}
	if wanted.server {
		unsigned.ExtKeyUsage = append(unsigned.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if wanted.client {
		unsigned.ExtKeyUsage = append(unsigned.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, unsigned, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", wanted.file, err)
	}
	if err := writePEM(l.PKI(wanted.file+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writeKey(l.PKI(wanted.file+".key"), key)
}

func newCertificate(name string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("serial number of %s: %w", name, err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certificateLife),
	}, nil
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return writePEM(file, "PRIVATE KEY", der, 0o600)
}

func writePEM(file, kind string, der []byte, mode fs.FileMode) error {
	if err := writeFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

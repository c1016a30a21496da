package servingcert

import (
	"fmt"
	"time"
)

// Names are what the certificate is for.
type Names struct {
	// Namespace is the operator's namespace.
	Namespace string
	// Services are the Services of the operator, in its namespace, that serve with the certificate. At least one.
	Services []string
}

// dnsNames are the names of the Services, as the API server and the node driver call them.
func (n Names) dnsNames() []string {
	names := make([]string, 0, 2*len(n.Services))
	for _, service := range n.Services {
		for _, domain := range n.domains() {
			names = append(names, service+"."+domain)
		}
	}
	return names
}

// domains are those that the CA may sign for, whatever the Services are called.
func (n Names) domains() []string {
	return []string{fmt.Sprintf("%s.svc", n.Namespace), fmt.Sprintf("%s.svc.cluster.local", n.Namespace)}
}

// Policy says how long certificates live and when they are replaced.
type Policy struct {
	// Names are those of the certificate.
	Names Names
	// CALifetime is how long a new CA is valid from now, CARenewBefore how long before its end the next one is made.
	CALifetime, CARenewBefore time.Duration
	// LeafLifetime is how long a new leaf is valid from now, at most until its CA ends. It is renewed when two thirds of
	// its life are over.
	LeafLifetime time.Duration
	// Backdate is how long before now a new certificate is valid from, for clocks that differ.
	Backdate time.Duration
	// Propagation is how long it may take, from the moment that the objects of the API hold a CA, until everybody who
	// reads them trusts it: the API server's own watch of webhook configurations, and the kubelet's refresh of ConfigMaps
	// in volumes (its --sync-frequency, 1 min by default, and its cache's, up to as much again).
	Propagation time.Duration
}

// Settings of DefaultPolicy.
const (
	day             = 24 * time.Hour
	caLifetime      = 5 * 365 * day
	caRenewBefore   = 365 * day
	leafLifetime    = 90 * day
	backdate        = time.Hour
	propagation     = time.Hour
	maxTrusted      = 8
	overlapFactor   = 2
	recallTolerance = 10 * time.Minute
)

// DefaultPolicy is what operators run with.
func DefaultPolicy(names Names) Policy {
	return Policy{
		Names:         names,
		CALifetime:    caLifetime,
		CARenewBefore: caRenewBefore,
		LeafLifetime:  leafLifetime,
		Backdate:      backdate,
		Propagation:   propagation,
	}
}

// overlap is how long a CA that was replaced without notice stays trusted: replicas serve its last leaf for the
// propagation time, and learn of the exchange at different moments.
func (p Policy) overlap() time.Duration { return overlapFactor * p.Propagation }

// longest is how long a CA that signs no more stays trusted at most: until the last leaf that it signed has ended, on
// clocks that differ.
func (p Policy) longest() time.Duration { return p.LeafLifetime + p.Backdate }

// Package protocol is what the node driver and the key service say to each other.
//
// It is three calls, JSON over TLS 1.3. The bearer token is the node driver's own projected service account token, bound
// to its pod, so that the node in it is the caller's node.
//
// POST /v1/release asks for a key. The body carries the token of the pod that wants it. A pod's token alone releases
// nothing, since tenants can have such tokens minted. The answer says for how long the key may stay.
//
// POST /v1/renew asks whether a key may stay longer. It carries no key and no pod's token.
//
// POST /v1/report says that a key was wiped or its volume taken down.
//
// Either end may be older than the other. Answers may gain fields, which older drivers ignore; so may renewals and
// reports, where older services ignore them. A release's request may not: services refuse fields of it that they do not
// know. A service without renewals and reports answers 404, by which nothing changes on the node, and its keys have no
// lease.
package protocol

import (
	"fmt"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

const (
	// AudiencePod is the audience of the pod tokens that kubelet hands to the driver (CSIDriver.spec.tokenRequests).
	AudiencePod = "modelrights.dev/pod"

	// AudienceDriver is the audience of the driver's own projected token.
	AudienceDriver = "modelrights.dev/driver"

	// ReleasePath is the path of the call for a key.
	ReleasePath = "/v1/release"

	// RenewPath is the path of the call that renews a lease.
	RenewPath = "/v1/renew"

	// ReportPath is the path of the call that reports the end of a key.
	ReportPath = "/v1/report"

	// MaxRequestBytes bounds a request's body: a token has about two kilobytes, names a few hundred bytes.
	MaxRequestBytes = 64 << 10

	// MaxResponseBytes bounds a response's body: eight keys of keys.MaxMaterialBytes, as base64, and the frame.
	MaxResponseBytes = 256 << 10

	// MaxHeaderBytes bounds a request's head, of which the driver's token is the bulk.
	MaxHeaderBytes = 32 << 10

	// MaxCallsPerNode is how many calls of one node, of each of the three kinds, a replica of the key service works on at the
	// same time. The driver makes no more, so that its calls wait on the node and for as long as kubelet gives them.
	MaxCallsPerNode = 4
)

// Volume says for which volume of which pod a key is wanted. All of it is the driver's claim until the server has
// checked it.
type Volume struct {
	// PodNamespace, PodName and PodUID name the pod.
	PodNamespace string `json:"podNamespace"`
	PodName      string `json:"podName"`
	PodUID       string `json:"podUID"`
	// License is the licence that the volume's attribute names.
	License string `json:"license"`
	// Handle is the volume's ID in CSI. It helps to find a release in the driver's log and decides nothing.
	Handle string `json:"handle"`
}

// ReleaseRequest is the body of the call.
type ReleaseRequest struct {
	// PodToken is the pod's own token, of AudiencePod.
	PodToken string `json:"podToken"`
	// Volume is what is wanted.
	Volume Volume `json:"volume"`
}

// ReleaseResponse is the body of a successful answer.
type ReleaseResponse struct {
	// Files are the volume's files by name; so far there is one, v1alpha1.KeyFileName.
	Files map[string][]byte `json:"files"`
	// LeaseSeconds is for how long the key may stay, from when it was asked for, unless that is renewed. 0 means for as long
	// as the pod runs, as before there were leases.
	LeaseSeconds int64 `json:"leaseSeconds,omitempty"`
}

// Wipe overwrites the files.
func (r *ReleaseResponse) Wipe() {
	for _, content := range r.Files {
		clear(content)
	}
}

// Error is every other answer, and what the client returns. It never holds a token or a byte of a key.
type Error struct {
	// Reason is the stable code. It is empty where the request could not be read.
	Reason v1alpha1.Reason `json:"reason"`
	// Message says what is wrong, Remedy what to do about it.
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	// Temporary says whether the same call may succeed later with nothing changed in the cluster's objects.
	Temporary bool `json:"temporary,omitempty"`
	// RetryAfter is how long the same call is sure to be refused, 0 where nobody knows. It travels as the header Retry-After,
	// in whole seconds.
	RetryAfter time.Duration `json:"-"`
	// Cause is the failure behind a temporary refusal, for the log of whoever met it. It does not travel.
	Cause error `json:"-"`
}

// Error is the reason, what is wrong, and what to do about it.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Reason, e.Message)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the Cause.
func (e *Error) Unwrap() error { return e.Cause }

// RemedyRetry is the remedy of what passes by itself.
const RemedyRetry = "it is tried again; if it persists, ask your platform team to look at the modelrights operator"

// Package keyservice releases keys to nodes, and is both ends of that protocol: the server in the operator and the
// client in the node driver.
//
// The protocol is one call, POST /v1/release, JSON over TLS 1.3. The bearer token is the node driver's own projected
// service account token, bound to its pod, so that the node in it is the caller's node; the body carries the token of
// the pod that wants the key. A pod's token alone releases nothing, since tenants can have such tokens minted.
package keyservice

import "modelrights.dev/modelrights/api/v1alpha1"

const (
	// AudiencePod is the audience of the pod tokens that kubelet hands to the driver (CSIDriver.spec.tokenRequests).
	AudiencePod = "modelrights.dev/pod"

	// AudienceDriver is the audience of the driver's own projected token.
	AudienceDriver = "modelrights.dev/driver"

	// ReleasePath is the path of the one call.
	ReleasePath = "/v1/release"

	// maxRequestBytes bounds a request's body: a token has about two kilobytes, names a few hundred bytes.
	maxRequestBytes = 64 << 10

	// maxResponseBytes bounds a response's body: eight keys of keys.MaxMaterialBytes, as base64, and the frame.
	maxResponseBytes = 256 << 10

	// maxHeaderBytes bounds a request's head, of which the driver's token is the bulk.
	maxHeaderBytes = 32 << 10
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
}

// Wipe overwrites the files.
func (r *ReleaseResponse) Wipe() {
	for _, content := range r.Files {
		clear(content)
	}
}

// refusalResponse is the body of every other answer.
type refusalResponse struct {
	Reason    v1alpha1.Reason `json:"reason"`
	Message   string          `json:"message"`
	Remedy    string          `json:"remedy,omitempty"`
	Temporary bool            `json:"temporary,omitempty"`
}

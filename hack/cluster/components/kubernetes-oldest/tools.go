//go:build tools

// Package components pins the main packages that the cluster builds.
package components

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)

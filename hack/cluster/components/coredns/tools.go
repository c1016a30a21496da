//go:build tools

// Package components pins the main packages that the cluster builds.
package components

import _ "github.com/coredns/coredns"

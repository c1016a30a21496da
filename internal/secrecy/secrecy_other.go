//go:build !linux

// Package secrecy keeps the memory of the process, through which keys pass, to itself: out of core dumps and out of swap.
package secrecy

import "errors"

// DisableCoreDumps is not to be had outside Linux; it returns errors.ErrUnsupported.
func DisableCoreDumps() error { return errors.ErrUnsupported }

// LockMemory is not to be had outside Linux; it returns errors.ErrUnsupported.
func LockMemory() error { return errors.ErrUnsupported }

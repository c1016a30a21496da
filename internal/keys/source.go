// Package keys finds the keys that open sealed models. A Source is where a licence's keys are kept; what it hands out is
// Material, which nothing prints by accident.
package keys

import (
	"context"
	"slices"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Source is where the keys of licences are kept: Secrets of the operator's namespace, and whatever else can hand out an
// age identity, such as a key management service, a PKCS#11 token that unwraps, or a key broker.
//
// A Source is asked at the moment of a release, so it must answer with the current key and must not cache it longer than
// the call. It is safe for concurrent use.
type Source interface {
	// Fetch returns the key of that name of a licence. The caller wipes it when done. Every error is an *Error and never
	// holds a byte of the key.
	Fetch(ctx context.Context, license *v1alpha1.ModelLicense, keyName string) (Material, error)
}

// FetchAll returns the keys of a licence in one Material, one identity a line, in the order of the keys' names. Names
// may come in any order and repeat. It is all or nothing; no names at all is NoKey. The errors are those of Source.
func FetchAll(ctx context.Context, source Source, license *v1alpha1.ModelLicense, keyNames []string) (Material, error) {
	names := slices.Compact(slices.Sorted(slices.Values(keyNames)))
	if len(names) == 0 {
		return Material{}, noKey(license.Name)
	}
	parts := make([]Material, 0, len(names))
	defer func() {
		for _, part := range parts {
			part.Wipe()
		}
	}()
	for _, name := range names {
		part, err := source.Fetch(ctx, license, name)
		if err != nil {
			return Material{}, err
		}
		parts = append(parts, part)
	}
	return Join(parts...), nil
}

package controllers

import "sigs.k8s.io/controller-runtime/pkg/client"

// Indexes of the cache, by the field that they follow.
const (
	// indexGrantLicense finds grants by the licence they name.
	indexGrantLicense = "spec.licenseName"
	// indexLicenseSecret finds licences by the Secrets of their keys.
	indexLicenseSecret = "spec.keys.secretRef.name"
	// indexLicensePullSecret finds licences by the Secrets with which their registries are read.
	indexLicensePullSecret = "spec.pullSecretRef.name"
)

// indexer is an index function for one kind.
func indexer[T client.Object](values func(T) []string) client.IndexerFunc {
	return func(o client.Object) []string {
		object, ok := o.(T)
		if !ok {
			return nil
		}
		return values(object)
	}
}

// Package registry reads what container registries say of images: tags, manifests and configurations, never layers. It
// contacts only the hosts that it is told, and shows credentials to nobody but the host they are for and that host's own
// token service. docs/decisions/0008-registries.md says why it does so as it does.
package registry

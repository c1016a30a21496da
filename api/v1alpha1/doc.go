// Package v1alpha1 holds the kinds of the modelrights.dev API group: what is licensed (ModelLicense), who uses it
// (ModelGrant), and what happened (ModelAuditRecord, ModelAuditLog). It holds types, bounds and validation rules, and
// no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=modelrights.dev
package v1alpha1

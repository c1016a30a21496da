// Package controllers holds the reconcilers: one for each kind, one for pods, and one for the CA that the node driver
// trusts. They turn what internal/entitlement decides into status, audit entries and Events.
package controllers

// fieldOwner is the name under which the operator owns the fields it applies.
const fieldOwner = "modelrights-operator"

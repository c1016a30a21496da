// Package version says which release a binary is.
package version

// Version is set when a release is built; "dev" otherwise.
var Version = "dev"

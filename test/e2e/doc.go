// Package e2e tests modelrights on a real cluster with a real kubelet: `make test-e2e`. The suite expects the cluster of
// hack/cluster on this machine, since it looks at the node's mounts and restarts its kubelet, the built kubectl and helm
// in _output/bin, and the images of the operator and the node driver in the cluster's registry. It installs the chart
// itself, and builds the images of its own pods.
package e2e

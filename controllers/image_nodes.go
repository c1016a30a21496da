package controllers

import (
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrimNode is a cache transform that leaves of a node its name, its labels and taints, whether it is ready, and the names
// of the images on it. Many nodes hold the same images, so that each name is kept once. A node from the cache must never be
// written back.
func TrimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{
		TypeMeta: node.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion,
			CreationTimestamp: node.CreationTimestamp, DeletionTimestamp: node.DeletionTimestamp,
		},
		Spec: corev1.NodeSpec{Taints: node.Spec.Taints},
	}
	for key, value := range node.Labels {
		metav1.SetMetaDataLabel(&trimmed.ObjectMeta, shared(key), shared(value))
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			trimmed.Status.Conditions = []corev1.NodeCondition{condition}
		}
	}
	for _, image := range node.Status.Images {
		names := make([]string, len(image.Names))
		for i, name := range image.Names {
			names[i] = unique.Make(name).Value()
		}
		trimmed.Status.Images = append(trimmed.Status.Images, corev1.ContainerImage{Names: names})
	}
	return trimmed, nil
}

// sameImageNames says whether two states of a node name the same images, in the same order.
func sameImageNames(before, after *corev1.Node) bool {
	if len(before.Status.Images) != len(after.Status.Images) {
		return false
	}
	for i := range before.Status.Images {
		b, a := before.Status.Images[i].Names, after.Status.Images[i].Names
		if len(b) != len(a) {
			return false
		}
		for n := range b {
			if b[n] != a[n] {
				return false
			}
		}
	}
	return true
}

// Package group recognises pods that start together or not at all: those of a LeaderWorkerSet, a JobSet and a Kueue pod
// group. It is pure and reads nothing but the pod's own metadata: who sets it falsely makes its own pods wait for more.
package group

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// MaxSize is the size from which on a group is taken for one of unknown size.
const MaxSize = 10000

// Labels and annotations of the projects that groups belong to, as their API packages have them.
const (
	// See kueue.x-k8s.io, "Run Plain Pods": a group's pods carry both.
	kueueName  = "kueue.x-k8s.io/pod-group-name"
	kueueCount = "kueue.x-k8s.io/pod-group-total-count"
	// See sigs.k8s.io/lws/api/leaderworkerset/v1.
	lwsName  = "leaderworkerset.sigs.k8s.io/name"
	lwsIndex = "leaderworkerset.sigs.k8s.io/group-index"
	lwsSize  = "leaderworkerset.sigs.k8s.io/size"
	// See sigs.k8s.io/jobset/api/jobset/v1alpha2. A pod does not say how many its JobSet has.
	jobsetName    = "jobset.sigs.k8s.io/jobset-name"
	jobsetAttempt = "jobset.sigs.k8s.io/restart-attempt"
)

// Group is a group of pods that start together.
type Group struct {
	// Key names the group within its namespace.
	Key string
	// Size is how many pods it has when it is complete; 0 where the pod does not say.
	Size int
}

// Of is the group that a pod belongs to, and false for a pod of its own. A pod group of Kueue's goes before the workload
// that its pods belong to, since it says which of them Kueue lets go at a time.
func Of(pod *corev1.Pod) (Group, bool) {
	labels := pod.Labels
	switch {
	case labels[kueueName] != "":
		return Group{"kueue/" + labels[kueueName], size(pod.Annotations[kueueCount])}, true
	case labels[lwsName] != "" && labels[lwsIndex] != "":
		return Group{"lws/" + labels[lwsName] + "/" + labels[lwsIndex], size(pod.Annotations[lwsSize])}, true
	case labels[jobsetName] != "":
		return Group{"jobset/" + labels[jobsetName] + "/" + labels[jobsetAttempt], 0}, true
	}
	return Group{}, false
}

func size(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxSize {
		return 0
	}
	return n
}

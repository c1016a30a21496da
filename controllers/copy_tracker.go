package controllers

import (
	"cmp"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// PodRef names a pod.
type PodRef = types.NamespacedName

// CopyTracker knows which pods run unlicensed copies, for the status of the licences that they are copies of. It is kept
// by CopyReconciler, and read from the pods' conditions again after a restart. It is safe for concurrent use, and empty
// when it is zero.
type CopyTracker struct {
	mu          sync.Mutex
	byPod       map[PodRef][]string
	byLicense   map[string]map[PodRef]bool
	subscribers []func(license string)
}

// Copies lists the pods that run copies of a licence's images, ordered by namespace and name.
func (t *CopyTracker) Copies(license string) []PodRef {
	t.mu.Lock()
	defer t.mu.Unlock()
	pods := make([]PodRef, 0, len(t.byLicense[license]))
	for pod := range t.byLicense[license] {
		pods = append(pods, pod)
	}
	slices.SortFunc(pods, func(a, b PodRef) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return pods
}

// Subscribe calls f with the name of each licence whose copies change from now on, once Copies takes account of it.
func (t *CopyTracker) Subscribe(f func(license string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers = append(t.subscribers, f)
}

// set notes of which licences' images a pod runs copies; none where it does not, or is gone.
func (t *CopyTracker) set(pod PodRef, licenses []string) {
	changed, subscribers := t.replace(pod, licenses)
	for _, license := range changed {
		for _, f := range subscribers {
			f(license)
		}
	}
}

// replace returns the licences whose copies changed, and whom to tell.
func (t *CopyTracker) replace(pod PodRef, licenses []string) (changed []string, subscribers []func(string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byPod == nil {
		t.byPod, t.byLicense = map[PodRef][]string{}, map[string]map[PodRef]bool{}
	}
	for _, license := range t.byPod[pod] {
		if slices.Contains(licenses, license) {
			continue
		}
		if delete(t.byLicense[license], pod); len(t.byLicense[license]) == 0 {
			delete(t.byLicense, license)
		}
		changed = append(changed, license)
	}
	for _, license := range licenses {
		if t.byLicense[license][pod] {
			continue
		}
		if t.byLicense[license] == nil {
			t.byLicense[license] = map[PodRef]bool{}
		}
		t.byLicense[license][pod] = true
		changed = append(changed, license)
	}
	if len(licenses) == 0 {
		delete(t.byPod, pod)
	} else {
		t.byPod[pod] = slices.Clone(licenses)
	}
	return changed, slices.Clone(t.subscribers)
}

package controllers

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// wanting is what a pod is known by that wants so many GPUs.
func wanting(n int, license *v1alpha1.ModelLicense, grant *v1alpha1.ModelGrant, gpus string) queuedPod {
	return queuedPod{
		name: types.NamespacedName{Namespace: "ml", Name: fmt.Sprintf("llm-%06d", n)}, uid: types.UID(fmt.Sprintf("0b1c2d3e-0000-4000-8000-%012d", n)),
		state: seatHeld, created: noon.Add(time.Duration(n) * time.Second), owner: "ml/llm", revision: "7d4b9c",
		needs: []seatNeed{{license: license, grant: grant, amount: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("32Gi"), "nvidia.com/gpu": resource.MustParse(gpus),
		}}},
	}
}

// TestQueuedPodsAreSmall: 50,000 pods that hold seats, as copies of a few, take less than 50 MB.
func TestQueuedPodsAreSmall(t *testing.T) {
	const pods = 20_000
	license, grant := chatLicense(), chatGrant()
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	q := NewSeatQueue()
	before := used()
	for n := range pods {
		q.put(wanting(n, license, grant, strconv.Itoa(1+n%3)))
	}
	each := (used() - before) / pods
	t.Logf("%d bytes a pod", each)
	if each > 1_000 {
		t.Errorf("a pod takes %d bytes", each)
	}
	runtime.KeepAlive(q)
}

// TestQueueSharesAmounts: and changes none by it.
func TestQueueSharesAmounts(t *testing.T) {
	license, grant := chatLicense(), chatGrant()
	q := NewSeatQueue()
	for n, gpus := range []string{"1", "2", "1", "3", "2"} {
		q.put(wanting(n, license, grant, gpus))
		p := q.byUID[wanting(n, license, grant, gpus).uid]
		if got := p.needs[0].amount["nvidia.com/gpu"]; got.String() != gpus || len(p.needs[0].amount) != 3 {
			t.Errorf("pod %d counts for %v, and wants %s GPUs", n, p.needs[0].amount, gpus)
		}
	}
	resized := wanting(0, license, grant, "3")
	resized.state = seatInQueue
	q.byUID[resized.uid].state = seatInQueue
	q.put(resized)
	if got := q.byUID[resized.uid].needs[0].amount["nvidia.com/gpu"]; got.String() != "3" {
		t.Errorf("after a resize it counts for %s GPUs", got.String())
	}
	if got := q.byUID[wanting(2, license, grant, "1").uid].needs[0].amount["nvidia.com/gpu"]; got.String() != "1" {
		t.Errorf("the resize of another pod makes it count for %s GPUs", got.String())
	}
}

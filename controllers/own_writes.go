package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// retryBehind is when an object is looked at again that the cache has from before its status was written.
	retryBehind = 50 * time.Millisecond
	// longestBehind is for how long a cache is taken to be behind a write: after a backup of etcd is restored, versions go back,
	// and it would never catch up.
	longestBehind = time.Minute
)

// ownWrites knows which objects the cache has from before their status was written here. Compared with such a status, one that
// has to be written back seems to be there already; and when the cache shows the other, nobody looks, since it is a status alone.
// It is safe for concurrent use.
type ownWrites struct {
	mu   sync.Mutex
	last map[types.NamespacedName]ownWrite
}

// ownWrite is the resourceVersion of an object's last write, and when that was by the machine's clock.
type ownWrite struct {
	uid     types.UID
	version string
	at      time.Time
}

// wrote takes notice of an object as it was written.
func (w *ownWrites) wrote(o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[types.NamespacedName]ownWrite{}
	}
	w.last[client.ObjectKeyFromObject(o)] = ownWrite{o.GetUID(), o.GetResourceVersion(), time.Now()}
}

// behind says whether a cached object is from before the last write. What it is not need not be remembered.
func (w *ownWrites) behind(o client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := client.ObjectKeyFromObject(o)
	last, ok := w.last[name]
	if !ok {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(o.GetResourceVersion(), last.version); err == nil && order < 0 && o.GetUID() == last.uid && time.Since(last.at) < longestBehind {
		return true
	}
	delete(w.last, name)
	return false
}

// forget forgets an object that is gone.
func (w *ownWrites) forget(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, name)
}

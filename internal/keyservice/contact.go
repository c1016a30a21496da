package keyservice

import (
	"context"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

const (
	// contactEvery is how often a replica sees whether the API server answers.
	contactEvery = 10 * time.Second
	// contactFor is for how long an answer counts. A replica that is cut off decides by a cache that gets older, and must not
	// make leases longer by it.
	contactFor = 30 * time.Second
)

// Contact knows whether the API server answered this replica lately.
type Contact struct {
	reader    client.Reader
	namespace string
	// last is when it was last asked something that it then answered, since began; 0 before.
	began time.Time
	last  atomic.Int64
}

var (
	_ manager.Runnable               = (*Contact)(nil)
	_ manager.LeaderElectionRunnable = (*Contact)(nil)
)

// NewContact returns a Contact that reads one namespace, which exists, by a reader that asks the API server.
func NewContact(reader client.Reader, namespace string) *Contact {
	return &Contact{reader: reader, namespace: namespace, began: time.Now()}
}

// NeedLeaderElection is false: every replica renews leases.
func (c *Contact) NeedLeaderElection() bool { return false }

// Start asks until the context ends.
func (c *Contact) Start(ctx context.Context) error {
	ticker := time.NewTicker(contactEvery)
	defer ticker.Stop()
	for {
		c.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (c *Contact) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, contactEvery)
	defer cancel()
	asked := time.Since(c.began)
	var namespace corev1.Namespace
	if c.reader.Get(ctx, types.NamespacedName{Name: c.namespace}, &namespace) == nil {
		c.last.Store(int64(max(asked, 1)))
	}
}

// InTouch says whether the API server answered within the last 30 seconds.
func (c *Contact) InTouch() bool { return c.inTouch(time.Since(c.began)) }

func (c *Contact) inTouch(now time.Duration) bool {
	last := time.Duration(c.last.Load())
	return last > 0 && now-last < contactFor
}

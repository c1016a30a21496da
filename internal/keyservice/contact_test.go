package keyservice

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/test/builders"
)

// A replica is in touch with the API server for 30 seconds after that answered, and not before it first did.
func TestContact(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	api := fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(builders.Namespace("modelrights-system").Obj()).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if away.Load() {
				return errBroken
			}
			return c.Get(ctx, key, o, opts...)
		},
	}).Build()
	c := NewContact(api, "modelrights-system")
	c.ask(t.Context())
	if c.InTouch() {
		t.Error("in touch before it answered")
	}
	away.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Start(ctx) }()
	gomega.NewWithT(t).Eventually(c.InTouch).WithTimeout(time.Minute).Should(gomega.BeTrue())
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	answered := time.Duration(c.last.Load())
	if !c.inTouch(answered+contactFor-1) || c.inTouch(answered+contactFor) {
		t.Error("an answer counts for another time than 30 s")
	}
	away.Store(true)
	c.ask(t.Context())
	if time.Duration(c.last.Load()) != answered {
		t.Error("a failure counts as an answer")
	}
	if c.NeedLeaderElection() {
		t.Error("only the leader would renew")
	}
}

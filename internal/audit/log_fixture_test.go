package audit

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newClient(t testing.TB) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ModelAuditLog{}).Build()
}

type createFunc func(ctx context.Context, c client.WithWatch, obj client.Object) error

func intercept(c client.WithWatch, create createFunc) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			return create(ctx, c, obj)
		},
	})
}

func newLog(t *testing.T, c client.Client, change ...func(*Options)) *Log {
	t.Helper()
	options := Options{
		Client: c, Reader: c, Identity: "operator-0", Linger: time.Millisecond, MaxBackoff: time.Millisecond,
		RequestTimeout: 5 * time.Second, FlushTimeout: 5 * time.Second,
	}
	for _, f := range change {
		f(&options)
	}
	l, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs a log until the test ends, and returns what stops it earlier and waits for that.
func start(t *testing.T, l *Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func numbered(n int) Entry {
	e := release()
	e.ID = strconv.Itoa(n)
	return e
}

// readLog reads the whole log and fails the test if it has a gap or an overlap.
func readLog(t *testing.T, c client.Client) []Located {
	t.Helper()
	var check Checker
	for record, err := range Records(t.Context(), c, 0) {
		if err != nil {
			t.Fatal(err)
		}
		check.Add(record)
	}
	if check.FaultCount > 0 {
		t.Fatalf("the log has faults: %v", check.Faults)
	}
	var out []Located
	for e, err := range Entries(t.Context(), c, 0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func ids(entries []Located) map[string]int {
	out := map[string]int{}
	for _, e := range entries {
		out[e.Entry.ID]++
	}
	return out
}

var (
	errCut     = errors.New("connection reset by peer")
	records    = schema.GroupResource{Group: "modelrights.dev", Resource: "modelauditrecords"}
	errTimeout = apierrors.NewServerTimeout(records, "create", 0)
)

package controllers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/prefilter"
)

// governing is what is governed, and whether that is known.
type governing struct {
	snapshot *entitlement.Snapshot
	synced   bool
}

func (g *governing) Snapshot() (*entitlement.Snapshot, bool) { return g.snapshot, g.synced }
func (g *governing) Subscribe(func(client.Object))           {}

// trusted is a CA bundle.
type trusted string

func (c trusted) CABundle() []byte { return []byte(c) }
func (c trusted) OnChange(func())  {}
func (c trusted) Verifies(bundle []byte) error {
	if string(bundle) != string(c) {
		return errors.New("another CA")
	}
	return nil
}

type someRules []admissionregistrationv1.RuleWithOperations

func (r someRules) Rules() []admissionregistrationv1.RuleWithOperations { return r }
func (r someRules) Changes() <-chan event.GenericEvent                  { return nil }

var webhookSettings = admissionconfig.Settings{
	ServiceNamespace: "modelrights-system", ServiceName: "modelrights-webhook",
	MutatePodsPath: "/mutate", ValidatePodsPath: "/validate", ValidateWorkloadsPath: "/workloads",
}

func governed(t *testing.T, repositories ...string) *governing {
	t.Helper()
	snapshot, err := entitlement.New(repositories)
	if err != nil {
		t.Fatal(err)
	}
	return &governing{snapshot: snapshot, synced: true}
}

// webhookFixture is a cluster with empty configurations.
func webhookFixture(t *testing.T, leading bool, g *governing, c trusted) (*WebhookReconciler, client.Client) {
	t.Helper()
	fakeClient := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(
		&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admissionconfig.Pods}},
		&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admissionconfig.Pods}},
		&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admissionconfig.Workloads}},
	).Build()
	return replica(fakeClient, leading, g, c), fakeClient
}

func replica(c client.Client, leading bool, g *governing, certificates trusted) *WebhookReconciler {
	r := &WebhookReconciler{Client: c, Live: c, Rights: g, Certificates: certificates, Settings: webhookSettings}
	r.leading.Store(leading)
	return r
}

func reconcileWebhooks(t *testing.T, r *WebhookReconciler) {
	t.Helper()
	if _, err := r.Reconcile(t.Context(), ctrl.Request{}); err != nil {
		t.Fatal(err)
	}
}

func liveWebhooks(t *testing.T, c client.Client, name string) []admissionregistrationv1.ValidatingWebhook {
	t.Helper()
	var live admissionregistrationv1.ValidatingWebhookConfiguration
	if err := c.Get(t.Context(), client.ObjectKey{Name: name}, &live); err != nil {
		t.Fatal(err)
	}
	return live.Webhooks
}

func filterInForce(t *testing.T, c client.Client) string {
	t.Helper()
	webhooks := liveWebhooks(t, c, admissionconfig.Pods)
	if len(webhooks) == 0 {
		return ""
	}
	return admissionconfig.FilterExpression(webhooks[0].MatchConditions)
}

func licenseFor(repository string) *v1alpha1.ModelLicense {
	l := &v1alpha1.ModelLicense{ObjectMeta: metav1.ObjectMeta{Name: "acme"}}
	l.Spec.Images = []v1alpha1.LicensedImage{{Repository: repository, Mirrors: []string{"mirror.example.com/cache/chat"}}}
	return l
}

func readiness(r *WebhookReconciler) error {
	return r.Ready(httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/readyz", http.NoBody))
}

// TestNothingIsWrittenBeforeItIsKnown: an empty snapshot, or no CA, must not replace what was written before.
func TestNothingIsWrittenBeforeItIsKnown(t *testing.T) {
	for name, r := range map[string]func(*testing.T) (*WebhookReconciler, client.Client){
		"licences not read": func(t *testing.T) (*WebhookReconciler, client.Client) {
			return webhookFixture(t, true, &governing{snapshot: &entitlement.Snapshot{}}, "ca")
		},
		"no CA": func(t *testing.T) (*WebhookReconciler, client.Client) {
			return webhookFixture(t, true, governed(t, "a.example/**"), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := r(t)
			reconcileWebhooks(t, r)
			if got := liveWebhooks(t, c, admissionconfig.Pods); len(got) > 0 {
				t.Errorf("wrote %v", got)
			}
			if readiness(r) == nil {
				t.Error("ready")
			}
		})
	}
}

// TestWhoWrites: the leader, and others only where there is nothing yet.
func TestWhoWrites(t *testing.T) {
	follower, c := webhookFixture(t, false, governed(t, "registry.example.com/first/**"), "ca")
	reconcileWebhooks(t, follower)
	if got := filterInForce(t, c); !strings.Contains(got, "first") {
		t.Errorf("a replica does not write the first webhooks: %q", got)
	}
	if err := readiness(follower); err != nil {
		t.Errorf("not ready: %v", err)
	}

	other := replica(c, false, governed(t, "registry.example.com/second/**"), "ca")
	reconcileWebhooks(t, other)
	if got := filterInForce(t, c); !strings.Contains(got, "first") {
		t.Errorf("one that does not lead overwrites them: %q", got)
	}
	if err := readiness(other); err != nil {
		t.Errorf("not ready, though it is called and trusted: %v", err)
	}
	if covered, _, err := other.Covers(t.Context(), licenseFor("registry.example.com/second/chat")); covered || !errors.Is(err, errUnknownFilter) {
		t.Errorf("covered %t, %v by a filter that it does not know", covered, err)
	}

	leader := replica(c, true, governed(t, "registry.example.com/second/**", "mirror.example.com/cache/**"), "ca")
	reconcileWebhooks(t, leader)
	if got := filterInForce(t, c); !strings.Contains(got, "second") || strings.Contains(got, "first") {
		t.Errorf("the leader does not overwrite them: %q", got)
	}
	if covered, why, err := leader.Covers(t.Context(), licenseFor("registry.example.com/second/chat")); !covered || err != nil {
		t.Errorf("covered %t, %s, %v by what it wrote", covered, why, err)
	}
	if covered, _, err := leader.Covers(t.Context(), licenseFor("registry.example.com/third/chat")); covered || err != nil {
		t.Errorf("covered %t, %v what it did not write", covered, err)
	}
}

// TestCoversMirrors: a mirror that is not sent is a way around.
func TestCoversMirrors(t *testing.T) {
	r, _ := webhookFixture(t, true, governed(t, "registry.example.com/models/**"), "ca")
	reconcileWebhooks(t, r)
	if covered, why, err := r.Covers(t.Context(), licenseFor("registry.example.com/models/chat")); covered || err != nil || why == "" {
		t.Errorf("covered %t, %q, %v without its mirror", covered, why, err)
	}
}

// TestReady: a replica that the API server calls elsewhere, or does not trust, takes no requests.
func TestReady(t *testing.T) {
	tests := map[string]func(*WebhookReconciler){
		"another CA":        func(r *WebhookReconciler) { r.Certificates = trusted("other") },
		"another path":      func(r *WebhookReconciler) { r.Settings.ValidatePodsPath = "/other" },
		"another namespace": func(r *WebhookReconciler) { r.Settings.ServiceNamespace = "other" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := webhookFixture(t, true, governed(t, "a.example/**"), "ca")
			if readiness(r) == nil {
				t.Error("ready before the configurations are written")
			}
			reconcileWebhooks(t, r)
			if err := readiness(r); err != nil {
				t.Fatal(err)
			}
			change(r)
			if readiness(r) == nil {
				t.Error("ready")
			}
		})
	}
	t.Run("configurations that are gone", func(t *testing.T) {
		r, c := webhookFixture(t, true, governed(t, "a.example/**"), "ca")
		gone := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admissionconfig.Pods}}
		fresh := replica(c, true, governed(t, "a.example/**"), "ca")
		reconcileWebhooks(t, r)
		if err := readiness(r); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		reconcileWebhooks(t, r)
		if err := readiness(r); err != nil {
			t.Errorf("takes the key service away: %v", err)
		}
		if err := readiness(fresh); !errors.Is(err, errMissing) || !strings.Contains(err.Error(), "install the chart") {
			t.Errorf("a replica that starts says %v", err)
		}
		if covered, why, _ := r.Covers(t.Context(), licenseFor("a.example/m")); covered || !strings.Contains(why, "does not exist") {
			t.Errorf("covered %t, %q", covered, why)
		}
	})
}

// TestWorkloadRules: the webhook for workloads comes and goes with its rules, and with what is governed.
func TestWorkloadRules(t *testing.T) {
	r, c := webhookFixture(t, true, governed(t, "a.example/**"), "ca")
	reconcileWebhooks(t, r)
	if got := liveWebhooks(t, c, admissionconfig.Workloads); len(got) > 0 {
		t.Errorf("without rules: %v", got)
	}
	r.Workloads = someRules{{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create}, Rule: admissionregistrationv1.Rule{
		APIGroups: []string{"apps"}, APIVersions: []string{"*"}, Resources: []string{"deployments"},
	}}}
	reconcileWebhooks(t, r)
	got := liveWebhooks(t, c, admissionconfig.Workloads)
	if len(got) != 1 || *got[0].FailurePolicy != admissionregistrationv1.Ignore || *got[0].TimeoutSeconds != 1 || *got[0].ClientConfig.Service.Path != "/workloads" {
		t.Errorf("with rules: %+v", got)
	}
	r.Workloads = someRules{}
	reconcileWebhooks(t, r)
	if got := liveWebhooks(t, c, admissionconfig.Workloads); len(got) > 0 {
		t.Errorf("when the rules are gone: %v", got)
	}
}

// TestNoWorkloadsWhereNothingIsGoverned: then there is nothing to say about them.
func TestNoWorkloadsWhereNothingIsGoverned(t *testing.T) {
	rules := someRules{{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create}}}
	if got := admissionconfig.ValidatingWorkloads(webhookSettings, admissionconfig.State{Filter: prefilter.Filter{}, WorkloadRules: rules}); got != nil {
		t.Errorf("got %v", got)
	}
}

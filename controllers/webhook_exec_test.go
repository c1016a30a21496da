package controllers

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

// execFixture is a cluster with an empty configuration, and counts what is written to it.
func execFixture(t *testing.T, g *governing) (*ExecWebhooks, client.Client, *int) {
	t.Helper()
	writes := 0
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).
		WithObjects(&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admissionconfig.Exec}}).
		WithInterceptorFuncs(interceptor.Funcs{Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			writes++
			return c.Apply(ctx, o, opts...)
		}}).Build()
	settings := webhookSettings
	settings.DenyExecPath, settings.AuditExecPath, settings.ExemptNamespaces = "/deny", "/audit", []string{"exempt"}
	return &ExecWebhooks{Client: c, Live: c, Rights: g, Ledgers: heldLedgers{}, Certificates: trusted("ca"), Settings: settings}, c, &writes
}

func reconcileExec(t *testing.T, r *ExecWebhooks) ctrl.Result {
	t.Helper()
	r.looked = time.Time{}
	result, err := r.Reconcile(t.Context(), ctrl.Request{})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// sent are the namespaces that each webhook is sent.
func sent(t *testing.T, c client.Client) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, w := range liveWebhooks(t, c, admissionconfig.Exec) {
		found[w.Name] = w.NamespaceSelector.MatchExpressions[0].Values
	}
	return found
}

func execChanges(policies map[string]v1alpha1.ExecPolicy, grants map[string]string) entitlement.Changes {
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	for name, policy := range policies {
		l := builders.License(name).Repository("registry.example.com/" + name).Obj()
		l.Spec.Terms.Exec = policy
		changes.Licenses[name] = l
	}
	for namespace, license := range grants {
		g := builders.Grant(namespace, "grant-"+license, license).Obj()
		changes.Grants[entitlement.GrantKey{Namespace: namespace, Name: g.Name}] = g
	}
	return changes
}

// TestExecWebhooksFollow licences and grants, and write only when the namespaces change.
func TestExecWebhooksFollow(t *testing.T) {
	g := governed(t)
	r, c, writes := execFixture(t, g)
	step := func(what string, change entitlement.Changes, want map[string][]string, wantWrites int) {
		t.Helper()
		*writes = 0
		g.snapshot = g.snapshot.Apply(change)
		reconcileExec(t, r)
		if diff := cmp.Diff(want, sent(t, c)); diff != "" {
			t.Errorf("%s: sent, wanted (-), got (+):\n%s", what, diff)
		}
		if *writes != wantWrites {
			t.Errorf("%s: written %d times, want %d", what, *writes, wantWrites)
		}
	}
	deny, audit := admissionconfig.DenyExec, admissionconfig.AuditExec
	policies := map[string]v1alpha1.ExecPolicy{"strict": v1alpha1.ExecDeny, "recorded": v1alpha1.ExecAudit, "open": v1alpha1.ExecAllow}
	step("licences alone", execChanges(policies, nil), map[string][]string{}, 0)
	step("a grant that allows", execChanges(nil, map[string]string{"a": "open"}), map[string][]string{}, 0)
	step("a grant that records", execChanges(nil, map[string]string{"b": "recorded"}), map[string][]string{audit: {"b"}}, 1)
	step("one more of the namespace", execChanges(nil, map[string]string{"b": "open"}), map[string][]string{audit: {"b"}}, 0)
	step("a grant that denies", execChanges(nil, map[string]string{"c": "strict"}), map[string][]string{audit: {"b"}, deny: {"c"}}, 1)
	step("a grant of no licence", execChanges(nil, map[string]string{"d": "none"}), map[string][]string{audit: {"b"}, deny: {"c"}}, 0)
	step("the strictest counts", execChanges(nil, map[string]string{"b": "strict"}), map[string][]string{deny: {"b", "c"}}, 1)
	step("an exempt namespace", execChanges(nil, map[string]string{"exempt": "strict", "kube-system": "strict"}), map[string][]string{deny: {"b", "c"}}, 0)
	step("a licence that is relaxed", execChanges(map[string]v1alpha1.ExecPolicy{"strict": v1alpha1.ExecAllow}, nil), map[string][]string{audit: {"b"}}, 1)
	gone := execChanges(nil, nil)
	gone.Licenses["recorded"] = nil
	step("a licence that is gone", gone, map[string][]string{}, 1)
}

// TestExecWebhooksOutlastGrants: who may delete a grant may not open the pods that hold the key by that.
func TestExecWebhooksOutlastGrants(t *testing.T) {
	g := governed(t)
	g.snapshot = g.snapshot.Apply(execChanges(map[string]v1alpha1.ExecPolicy{"strict": v1alpha1.ExecDeny, "recorded": v1alpha1.ExecAudit, "open": v1alpha1.ExecAllow},
		map[string]string{"a": "strict", "both": "recorded"}))
	r, c, _ := execFixture(t, g)
	ledgers := heldLedgers{}
	for i, held := range []struct{ namespace, license string }{{"a", "strict"}, {"both", "strict"}, {"b", "recorded"}, {"c", "open"}, {"d", "gone"}} {
		license := g.snapshot.License(held.license)
		if license == nil {
			license = builders.License(held.license).Obj()
		}
		uid := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		ledgers.holds(t, license, builders.Pod(held.namespace, "llm").UID(uid).Obj(), nil)
	}
	r.Ledgers = ledgers
	want := map[string][]string{admissionconfig.DenyExec: {"a", "both"}, admissionconfig.AuditExec: {"b"}}
	step := func(what string) {
		t.Helper()
		reconcileExec(t, r)
		if diff := cmp.Diff(want, sent(t, c)); diff != "" {
			t.Errorf("%s: sent, wanted (-), got (+):\n%s", what, diff)
		}
	}
	step("with grants")
	gone := execChanges(nil, nil)
	for namespace, license := range map[string]string{"a": "strict", "both": "recorded"} {
		gone.Grants[entitlement.GrantKey{Namespace: namespace, Name: "grant-" + license}] = nil
	}
	g.snapshot = g.snapshot.Apply(gone)
	step("without")
	r.Ledgers, r.due = heldLedgers{}, time.Time{}
	want = map[string][]string{}
	step("without seats")
}

// TestExecWebhooksMany: one write is enough for many namespaces, all of which are named.
func TestExecWebhooksMany(t *testing.T) {
	g := governed(t)
	r, c, writes := execFixture(t, g)
	changes := execChanges(map[string]v1alpha1.ExecPolicy{"strict": v1alpha1.ExecDeny}, nil)
	var want []string
	for i := range 2500 {
		grant := builders.Grant(fmt.Sprintf("ns-%04d", i), "g", "strict").Obj()
		changes.Grants[entitlement.GrantKey{Namespace: grant.Namespace, Name: grant.Name}] = grant
		want = append(want, grant.Namespace)
	}
	g.snapshot = g.snapshot.Apply(changes)
	for range 5 {
		reconcileExec(t, r)
		g.snapshot = g.snapshot.Apply(execChanges(nil, map[string]string{"ns-0000": "strict"}))
	}
	if *writes != 1 {
		t.Errorf("written %d times", *writes)
	}
	if got := sent(t, c); len(got) != 1 || !slices.Equal(got[admissionconfig.DenyExec], want) {
		t.Errorf("%d namespaces are named, want %d", len(got[admissionconfig.DenyExec]), len(want))
	}
}

func TestExecWebhooksPace(t *testing.T) {
	g := governed(t)
	r, _, _ := execFixture(t, g)
	reconcileExec(t, r)
	result, err := r.Reconcile(t.Context(), ctrl.Request{})
	if err != nil || result.RequeueAfter <= 0 || result.RequeueAfter > execDebounce {
		t.Errorf("looks again after %v, %v", result.RequeueAfter, err)
	}
}

// TestExecWebhooksWait: what is not known yet must not replace what was known before.
func TestExecWebhooksWait(t *testing.T) {
	g := governed(t)
	g.snapshot = g.snapshot.Apply(execChanges(map[string]v1alpha1.ExecPolicy{"strict": v1alpha1.ExecDeny}, map[string]string{"a": "strict"}))
	r, c, writes := execFixture(t, g)
	reconcileExec(t, r)
	*writes, g.synced, r.due = 0, false, time.Time{}
	if result := reconcileExec(t, r); result.RequeueAfter != unsyncedRetry || *writes != 0 {
		t.Errorf("written %d times before licences were read; looks again after %v", *writes, result.RequeueAfter)
	}
	g.synced, r.Certificates = true, trusted("")
	if reconcileExec(t, r); *writes != 0 {
		t.Error("written without a CA")
	}
	r.Certificates = trusted("other")
	if reconcileExec(t, r); *writes != 1 || string(liveWebhooks(t, c, admissionconfig.Exec)[0].ClientConfig.CABundle) != "other" {
		t.Errorf("written %d times for another CA", *writes)
	}
}

// TestExecWebhooksRepair: what somebody else did is put right within a minute, and a missing configuration is none of ours.
func TestExecWebhooksRepair(t *testing.T) {
	g := governed(t)
	g.snapshot = g.snapshot.Apply(execChanges(map[string]v1alpha1.ExecPolicy{"strict": v1alpha1.ExecDeny}, map[string]string{"a": "strict"}))
	r, c, writes := execFixture(t, g)
	reconcileExec(t, r)
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: admissionconfig.Exec}, live); err != nil {
		t.Fatal(err)
	}
	live.Webhooks = nil
	if err := c.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	*writes = 0
	if result := reconcileExec(t, r); result.RequeueAfter > webhookRecheck || *writes != 0 {
		t.Errorf("looks again after %v; written %d times", result.RequeueAfter, *writes)
	}
	r.due = time.Time{}
	reconcileExec(t, r)
	if len(sent(t, c)) != 1 {
		t.Error("the webhook is still missing")
	}
	if err := c.Delete(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	*writes, r.due = 0, time.Time{}
	if reconcileExec(t, r); *writes != 0 {
		t.Error("a configuration that does not exist was written")
	}
}

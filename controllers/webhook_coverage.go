package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/internal/prefilter"
)

// rememberedFilters is how many filters that this replica made it can tell by their expressions.
const rememberedFilters = 8

var (
	errMissing = errors.New("the webhook configuration does not exist")
	// errUnknownFilter: somebody else wrote the configuration; what it covers is known when it is written anew.
	errUnknownFilter = errors.New("the webhook configurations hold a filter that this replica did not make")
)

// Coverage knows which licences the API server applies.
type Coverage interface {
	// Covers says whether pods that use images of the licence are sent to the operator, and if not, what is in the way.
	// The error means that it cannot be told now.
	Covers(ctx context.Context, license *v1alpha1.ModelLicense) (covered bool, why string, err error)
}

type knownFilter struct {
	expression string
	filter     prefilter.Filter
}

// liveConfigurations are the configurations for pods as the cache has them; nil where one does not exist.
type liveConfigurations struct {
	mutating   *admissionregistrationv1.MutatingWebhookConfiguration
	validating *admissionregistrationv1.ValidatingWebhookConfiguration
}

// inForce is what the configurations for pods of these versions send.
type inForce struct {
	mutating, validating string // resource versions
	filters              []prefilter.Filter
	why                  string // they do not send at all
	err                  error
}

func (r *WebhookReconciler) read(ctx context.Context) (*liveConfigurations, error) {
	live := &liveConfigurations{
		mutating: &admissionregistrationv1.MutatingWebhookConfiguration{}, validating: &admissionregistrationv1.ValidatingWebhookConfiguration{},
	}
	key := client.ObjectKey{Name: admissionconfig.Pods}
	if err := r.Client.Get(ctx, key, live.mutating); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the mutating webhook configuration %s: %w", key.Name, err)
	} else if err != nil {
		live.mutating = nil
	}
	if err := r.Client.Get(ctx, key, live.validating); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the validating webhook configuration %s: %w", key.Name, err)
	} else if err != nil {
		live.validating = nil
	}
	return live, nil
}

func (l *liveConfigurations) missing() []string {
	var kinds []string
	if l.mutating == nil {
		kinds = append(kinds, "MutatingWebhookConfiguration")
	}
	if l.validating == nil {
		kinds = append(kinds, "ValidatingWebhookConfiguration")
	}
	return kinds
}

// know remembers a filter, to be told by its expression.
func (r *WebhookReconciler) know(f prefilter.Filter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = append(r.known, knownFilter{expression: f.Expression(), filter: f})
	if len(r.known) > rememberedFilters {
		r.known = r.known[1:]
	}
	r.live = inForce{}
}

func (r *WebhookReconciler) filters() []knownFilter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

// Covers implements Coverage by the configurations as the cache has them.
func (r *WebhookReconciler) Covers(ctx context.Context, license *v1alpha1.ModelLicense) (bool, string, error) {
	live, err := r.read(ctx)
	if err != nil {
		return false, "", err
	}
	if missing := live.missing(); len(missing) > 0 {
		return false, fmt.Sprintf("no pod is sent to the operator: the %s %s does not exist; install the chart, or apply config/webhook, again", missing[0], admissionconfig.Pods), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live.mutating != live.mutating.ResourceVersion || r.live.validating != live.validating.ResourceVersion {
		r.live = r.judge(live)
	}
	if r.live.err != nil || r.live.why != "" {
		return false, r.live.why, r.live.err
	}
	for _, f := range r.live.filters {
		for p := range entitlement.LicensePatterns(license) {
			if !f.Covers(p) {
				return false, "pods with its images are not sent to the operator yet: the webhook configurations are about to be written", nil
			}
		}
	}
	return true, "", nil
}

// judge says what the configurations send. They must be as this replica would write them with some filter that it knows.
func (r *WebhookReconciler) judge(live *liveConfigurations) inForce {
	found := inForce{mutating: live.mutating.ResourceVersion, validating: live.validating.ResourceVersion}
	mutating, validating := admissionconfig.OursMutating(live.mutating.Webhooks), admissionconfig.OursValidating(live.validating.Webhooks)
	if len(mutating) == 0 || len(validating) == 0 {
		found.why = "no pod is sent to the operator yet: the webhook configurations are about to be written"
		return found
	}
	for _, expression := range []string{
		admissionconfig.FilterExpression(mutating[0].MatchConditions), admissionconfig.FilterExpression(validating[0].MatchConditions),
	} {
		filter, ok := r.filterOf(expression)
		if !ok {
			found.err = errUnknownFilter
			return found
		}
		found.filters = append(found.filters, filter)
	}
	asMutating := admissionconfig.State{Filter: found.filters[0], CABundle: mutating[0].ClientConfig.CABundle}
	asValidating := admissionconfig.State{Filter: found.filters[1], CABundle: validating[0].ClientConfig.CABundle}
	if !admissionconfig.SameMutating(mutating, admissionconfig.MutatingPods(r.Settings, asMutating)) ||
		!admissionconfig.SameValidating(validating, admissionconfig.ValidatingPods(r.Settings, asValidating)) {
		found.why = "somebody changed the webhook configurations " + admissionconfig.Pods + ": they are about to be put right"
	}
	return found
}

// filterOf is the filter with this expression, if this replica made it.
func (r *WebhookReconciler) filterOf(expression string) (prefilter.Filter, bool) {
	for _, k := range r.known {
		if k.expression == expression {
			return k.filter, true
		}
	}
	return prefilter.Filter{}, false
}

// Ready is a readiness check: the API server calls this replica where it answers, and trusts the certificate with which it
// does. Before that was so once, the configurations must exist. Later it is no reason to take the key service away that
// they are gone or empty, which they are while the operator is uninstalled.
func (r *WebhookReconciler) Ready(req *http.Request) error {
	live, err := r.read(req.Context())
	if err != nil {
		return err
	}
	if missing := live.missing(); len(missing) > 0 && !r.wasReady.Load() {
		return fmt.Errorf("%s %s: %w; install the chart, or apply config/webhook, again", missing[0], admissionconfig.Pods, errMissing)
	}
	clients := map[string][]admissionregistrationv1.WebhookClientConfig{}
	if live.mutating != nil {
		for _, w := range admissionconfig.OursMutating(live.mutating.Webhooks) {
			clients[r.Settings.MutatePodsPath] = append(clients[r.Settings.MutatePodsPath], w.ClientConfig)
		}
	}
	if live.validating != nil {
		for _, w := range admissionconfig.OursValidating(live.validating.Webhooks) {
			clients[r.Settings.ValidatePodsPath] = append(clients[r.Settings.ValidatePodsPath], w.ClientConfig)
		}
	}
	for _, path := range []string{r.Settings.MutatePodsPath, r.Settings.ValidatePodsPath} {
		if len(clients[path]) == 0 && !r.wasReady.Load() {
			return fmt.Errorf("the webhook configurations %s have not been written yet", admissionconfig.Pods)
		}
		for _, c := range clients[path] {
			if c.Service == nil || c.Service.Namespace != r.Settings.ServiceNamespace || c.Service.Name != r.Settings.ServiceName || ptr.Deref(c.Service.Path, "") != path {
				return fmt.Errorf("the webhook configurations %s name another place than this operator", admissionconfig.Pods)
			}
			if err := r.Certificates.Verifies(c.CABundle); err != nil {
				return fmt.Errorf("the webhook configurations %s: %w", admissionconfig.Pods, err)
			}
		}
	}
	r.wasReady.Store(true)
	return nil
}

package main

import (
	"math"
	"slices"
	"time"

	"modelrights.dev/modelrights/test/bench/gauge"
)

// Figures are in milliseconds, unless their names say otherwise.

// report is what a run measured, and where.
type report struct {
	Machine gauge.Machine `json:"machine"`
	Plan    plan          `json:"plan"`
	Started time.Time     `json:"started"`
	// Seconds is how long the whole run took.
	Seconds float64      `json:"seconds"`
	Sizes   []sizeReport `json:"sizes"`
	Aims    []gauge.Aim  `json:"aims"`
}

// sizeReport is what was measured with so many licences and grants.
type sizeReport struct {
	Licenses int `json:"licenses"`
	Grants   int `json:"grants"`
	// SeedSeconds is how long it took to write them. ReadySeconds is from the start of the operator's process, with all of
	// them in place, until it was ready; 0 where it ran before. SettleSeconds is until it had nothing more to do.
	SeedSeconds   float64 `json:"seedSeconds"`
	ReadySeconds  float64 `json:"readySeconds,omitempty"`
	SettleSeconds float64 `json:"settleSeconds"`
	// MeasureSeconds is how long the slices took; ForeignCPUs is how many CPUs others than the benchmark and the processes
	// that it started kept busy meanwhile, and Load the load averages after it.
	MeasureSeconds float64 `json:"measureSeconds"`
	ForeignCPUs    float64 `json:"foreignCPUs"`
	Load           string  `json:"load"`
	// Memory is that of the operator after the slices.
	Memory   gauge.MemoryReport `json:"memory"`
	Variants []*variantReport   `json:"variants"`
	// NotMeasured says why variants could not be measured at this size.
	NotMeasured map[string]string `json:"notMeasured,omitempty"`
}

// variantReport is what the slices of one variant showed together.
type variantReport struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Pods  int    `json:"pods"`
	// Wrong is how many of the pods were not decided as they must be, and FirstWrong what happened to the first of them. If
	// there are any, the run fails.
	Wrong      int    `json:"wrong"`
	FirstWrong string `json:"firstWrong,omitempty"`
	// Client is the latency from the moment at which a pod was due to be sent.
	Client gauge.Latencies `json:"client"`
	// LateP99 is by how much the pods were sent too late: what the benchmark itself adds.
	LateP99 float64 `json:"lateP99"`
	// PodsPerSecond were answered.
	PodsPerSecond float64 `json:"podsPerSecond"`
	// Steps and Plugins are the API server's, for each pod: all mutating admission (admit) and all validating one, and the
	// plugins in which webhooks and policies are asked.
	Steps   map[string]perPod `json:"steps"`
	Plugins map[string]perPod `json:"plugins"`
	// Webhooks are the calls, by the webhook's name.
	Webhooks map[string]perCall `json:"webhooks,omitempty"`
	// Conditions are the evaluations of matchConditions, by the webhook's name, and ConditionsPerPod all of them together.
	Conditions       map[string]perCall `json:"matchConditions,omitempty"`
	ConditionsPerPod float64            `json:"matchConditionsPerPod"`
	ConditionErrors  float64            `json:"matchConditionErrors"`
	// Policy is the check of the ValidatingAdmissionPolicy.
	Policy *perCall `json:"policy,omitempty"`
	// OperatorCalls is how many requests for webhooks the operator counted. OperatorCPUPerPod is what it used of CPUs during
	// the slices for each pod, OperatorCPUPerCall for each of these requests, in milliseconds of CPU time.
	OperatorCalls      float64 `json:"operatorCalls"`
	OperatorCPUPerPod  float64 `json:"operatorCPUPerPod"`
	OperatorCPUPerCall float64 `json:"operatorCPUPerCall,omitempty"`

	slices []*slice
}

// perPod divides the sum of a histogram by the pods: a plugin is also asked about other objects, which take it no time.
type perPod struct {
	Mean  float64 `json:"mean"`
	Count uint64  `json:"count"`
}

// perCall is a histogram. AtMost says in which of its buckets percentiles lie; -1 is beyond the last.
type perCall struct {
	Count     uint64  `json:"count"`
	Mean      float64 `json:"mean"`
	P50AtMost float64 `json:"p50AtMost"`
	P99AtMost float64 `json:"p99AtMost"`
}

func perCallOf(h gauge.Histogram) perCall {
	bound := func(q float64) float64 {
		if b := h.Bound(q); !math.IsInf(b, 1) {
			return b * 1e3
		}
		return -1
	}
	return perCall{Count: h.Count, Mean: h.Mean() * 1e3, P50AtMost: bound(0.5), P99AtMost: bound(0.99)}
}

// delta is what a histogram of the API server counted during slices.
func delta(of []*slice, name string, with gauge.Labels) (gauge.Histogram, error) {
	var sum gauge.Histogram
	for _, s := range of {
		one, err := s.after.Histogram(name, with).Since(s.before.Histogram(name, with))
		if err != nil {
			return gauge.Histogram{}, err
		}
		sum = sum.Plus(one)
	}
	return sum, nil
}

// namesOf lists the values of the label name that a metric has for the creation of objects.
func namesOf(s gauge.Scrape, metric string) []string {
	var names []string
	for _, m := range s.Series(metric, gauge.Labels{"operation": "CREATE"}) {
		for _, l := range m.GetLabel() {
			if l.GetName() == "name" && !slices.Contains(names, l.GetValue()) {
				names = append(names, l.GetValue())
			}
		}
	}
	return names
}

// summarise sums up the slices of a variant.
func summarise(v *variant, of []*slice) (*variantReport, error) {
	r := &variantReport{
		Name: v.Name, About: v.About, Steps: map[string]perPod{}, Plugins: map[string]perPod{},
		Webhooks: map[string]perCall{}, Conditions: map[string]perCall{}, slices: of,
	}
	var all, late []time.Duration
	var took, sum, cpu time.Duration
	for _, s := range of {
		for _, one := range s.samples {
			all, late = append(all, one.Latency), append(late, one.Late)
			sum += one.Latency
			if one.Err != nil {
				if r.Wrong++; r.Wrong == 1 {
					r.FirstWrong = one.Err.Error()
				}
			}
		}
		took += s.took
		cpu += s.cpu
		r.OperatorCalls += s.calls
		r.ConditionErrors += s.after.Value(metricCondErrors, nil) - s.before.Value(metricCondErrors, nil)
	}
	r.Pods = len(all)
	pods := float64(r.Pods)
	r.Client = gauge.Latencies{
		P50: gauge.Milliseconds(gauge.Percentile(all, 0.5)), P90: gauge.Milliseconds(gauge.Percentile(all, 0.9)), P99: gauge.Milliseconds(gauge.Percentile(all, 0.99)),
		Max: gauge.Milliseconds(gauge.Percentile(all, 1)), Mean: gauge.Milliseconds(sum) / pods,
	}
	r.LateP99 = gauge.Milliseconds(gauge.Percentile(late, 0.99))
	r.PodsPerSecond = pods / took.Seconds()
	r.OperatorCPUPerPod = gauge.Milliseconds(cpu) / pods
	if r.OperatorCalls > 0 {
		r.OperatorCPUPerCall = gauge.Milliseconds(cpu) / r.OperatorCalls
	}
	return r, r.addServer(of, pods)
}

// addServer adds what the API server says.
func (r *variantReport) addServer(of []*slice, pods float64) error {
	for _, step := range []string{"admit", "validate"} {
		h, err := delta(of, metricSteps, gauge.Labels{"type": step, "operation": "CREATE"})
		if err != nil {
			return err
		}
		r.Steps[step] = perPod{Mean: h.Sum / pods * 1e3, Count: h.Count}
	}
	for _, plugin := range []string{"MutatingAdmissionWebhook", "ValidatingAdmissionWebhook", "ValidatingAdmissionPolicy"} {
		h, err := delta(of, metricPlugins, gauge.Labels{"name": plugin, "operation": "CREATE"})
		if err != nil {
			return err
		}
		r.Plugins[plugin] = perPod{Mean: h.Sum / pods * 1e3, Count: h.Count}
	}
	last := of[len(of)-1].after
	for _, name := range namesOf(last, metricWebhooks) {
		h, err := delta(of, metricWebhooks, gauge.Labels{"name": name, "operation": "CREATE"})
		if err != nil {
			return err
		}
		if h.Count > 0 {
			r.Webhooks[name] = perCallOf(h)
		}
	}
	for _, name := range namesOf(last, metricConditions) {
		h, err := delta(of, metricConditions, gauge.Labels{"name": name, "operation": "CREATE", "kind": "webhook"})
		if err != nil {
			return err
		}
		if h.Count > 0 {
			r.Conditions[name] = perCallOf(h)
			r.ConditionsPerPod += h.Sum / pods * 1e3
		}
	}
	h, err := delta(of, metricPolicies, gauge.Labels{"policy": policyName})
	if err != nil {
		return err
	}
	if h.Count > 0 {
		p := perCallOf(h)
		r.Policy = &p
	}
	return nil
}

// callRatio compares the calls of a webhook with those of an empty one: in the rounds of the run, of which it returns
// the median, and in all of them together. Both are NaN where there were no calls.
func callRatio(ours *variantReport, our string, empty *variantReport, theirs string) (median, pooled float64) {
	mean := func(of []*slice, name string) float64 {
		h, err := delta(of, metricWebhooks, gauge.Labels{"name": name, "operation": "CREATE"})
		if err != nil || h.Count == 0 {
			return math.NaN()
		}
		return h.Mean()
	}
	var ratios []float64
	for i := range min(len(ours.slices), len(empty.slices)) {
		if ratio := mean(ours.slices[i:i+1], our) / mean(empty.slices[i:i+1], theirs); !math.IsNaN(ratio) {
			ratios = append(ratios, ratio)
		}
	}
	if len(ratios) == 0 {
		return math.NaN(), math.NaN()
	}
	slices.Sort(ratios)
	median = ratios[len(ratios)/2]
	if len(ratios)%2 == 0 {
		median = (median + ratios[len(ratios)/2-1]) / 2
	}
	return median, mean(ours.slices, our) / mean(empty.slices, theirs)
}

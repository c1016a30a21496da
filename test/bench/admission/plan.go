package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"modelrights.dev/modelrights/test/bench/cluster"
)

// Namespaces of the pods that are created. Those of variants in which the operator is to have no part are exempt from
// its webhooks, and each of the other configurations selects its own namespace by its name.
const (
	namespaceNone   = "bench-none"
	namespaceEmpty  = "bench-empty"
	namespaceOurs   = "bench-ours"
	namespacePolicy = "bench-policy"
)

// verdict is how a pod must be decided; a variant whose pods are decided otherwise measures nothing.
type verdict int

const (
	// untouched: created as it was sent.
	untouched verdict = iota
	// withKey: created with the key volume, which shows that our mutating webhook was called and found it entitled.
	withKey
	// refused: denied by our validating webhook as Unlicensed.
	refused
)

// variant is one thing that is measured. All are measured in the same run, in slices whose order is random.
type variant struct {
	// Name is short, About says it in a sentence.
	Name, About string
	namespace   string
	// image is that of the i-th pod.
	image func(i int) string
	// stored variants create pods, which are deleted after the slice; the others are dry runs.
	stored bool
	want   verdict
	// slowness divides the rate and the number of pods of a slice; 0 is 1.
	slowness int
	// webhooks are the names of the webhooks that the API server must call, each once for each pod.
	webhooks []string
}

const (
	ourMutating     = "mutate.pods.modelrights.dev"
	ourValidating   = "validate.pods.modelrights.dev"
	emptyMutating   = "mutate.empty.bench.modelrights.dev"
	emptyValidating = "validate.empty.bench.modelrights.dev"
)

// Names of the variants.
const (
	variantNone          = "none"
	variantEmpty         = "empty"
	variantOrdinary      = "ordinary"
	variantLicensed      = "licensed"
	variantRefused       = "refused"
	variantPolicy        = "policy"
	variantEmptyStored   = "empty-stored"
	variantLicenseStored = "licensed-stored"
)

// variants are all that is measured.
func variants() []variant {
	ours, empty := []string{ourMutating, ourValidating}, []string{emptyMutating, emptyValidating}
	return []variant{
		{Name: variantNone, About: "no webhook (dry run)", namespace: namespaceNone, image: licensedImage},
		{Name: variantEmpty, About: "a mutating and a validating webhook that allow everything (dry run)", namespace: namespaceEmpty, image: licensedImage, webhooks: empty},
		{Name: variantOrdinary, About: "ours, pods without a model (dry run)", namespace: namespaceOurs, image: ordinaryImage, want: untouched},
		{Name: variantLicensed, About: "ours, licensed pods (dry run)", namespace: namespaceOurs, image: licensedImage, want: withKey, webhooks: ours},
		{Name: variantRefused, About: "ours, pods with an unlicensed model, which are denied after live reads (dry run, a quarter of the rate)", namespace: namespaceOurs, image: unlicensedImage, want: refused, slowness: 4, webhooks: ours},
		{Name: variantPolicy, About: "a ValidatingAdmissionPolicy with the list of licensed repositories (dry run)", namespace: namespacePolicy, image: licensedImage},
		{Name: variantEmptyStored, About: "the empty webhooks, pods are stored", namespace: namespaceEmpty, image: licensedImage, stored: true, webhooks: empty},
		{Name: variantLicenseStored, About: "ours, licensed pods are stored and their admission is logged", namespace: namespaceOurs, image: licensedImage, stored: true, want: withKey, webhooks: ours},
	}
}

// plan is how much is measured, and in which order.
type plan struct {
	// Sizes are the numbers of licences at which everything is measured, ascending. Each has ten grants.
	Sizes []int `json:"licenses"`
	// Slices is how many slices each variant has at each size, Pods how many pods a slice sends, Rate how many a second.
	Slices int     `json:"slices"`
	Pods   int     `json:"podsPerSlice"`
	Rate   float64 `json:"podsPerSecond"`
	// Seed is that of the order of the slices.
	Seed uint64 `json:"seed"`
}

// full ends in less than a quarter of an hour on two CPUs; short is for development.
func full() plan  { return plan{Sizes: []int{10, 1_000, 10_000}, Slices: 12, Pods: 60, Rate: 40} }
func short() plan { return plan{Sizes: []int{10, 1_000}, Slices: 3, Pods: 40, Rate: 40} }

// isFull says whether at least as much is measured as full does, so that aims can be judged.
func (p plan) isFull() bool {
	f := full()
	return p.Slices >= f.Slices && p.Pods >= f.Pods && slices.Equal(p.Sizes, f.Sizes)
}

// slice is how many pods a slice of a variant sends, and how often: of slow ones fewer in the same time. A refused pod
// costs the operator two live reads, of which it makes at most a hundred a second.
func (p plan) slice(v *variant) (pods int, interval time.Duration) {
	slowness := max(1, v.slowness)
	return max(1, p.Pods/slowness), time.Duration(float64(slowness) * float64(time.Second) / p.Rate)
}

// validate says what cannot be measured.
func (p plan) validate() error {
	if len(p.Sizes) == 0 || p.Slices < 1 || p.Pods < 1 || p.Rate <= 0 {
		return fmt.Errorf("nothing would be measured: %+v", p)
	}
	last := 0
	for _, n := range p.Sizes {
		if n < cluster.LicensesAtFirst || n <= last {
			return fmt.Errorf("the numbers of licences must ascend from at least %d, but are %v", cluster.LicensesAtFirst, p.Sizes)
		}
		last = n
	}
	return nil
}

// order is one in which the slices of n variants are measured: rounds, in each of which every variant has one slice, in
// random order, so that what changes over time on the machine hits all of them.
func (p plan) order(n int, random *rand.Rand) []int {
	var order []int
	for range p.Slices {
		order = append(order, random.Perm(n)...)
	}
	return order
}

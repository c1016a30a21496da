package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gmeasure"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seatbook"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// A seat ledger is the operator's to write, by compare-and-swap.
var _ = Describe("The seat ledger", Ordered, ContinueOnFailure, func() {
	var (
		admin, operator client.Client
		view            *seatbook.View
		grant           = seats.Grant{Namespace: "ml-prod", Name: "chat", UID: "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}
		since           = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	)
	pod := func(n int) types.UID { return types.UID(fmt.Sprintf("0c0ffee0-0000-4000-8000-%012x", n)) }
	take := func(license *v1alpha1.ModelLicense, n int) seats.Take {
		return seats.Take{Pod: pod(n), Grant: grant, Generation: license.Generation, Since: since}
	}
	book := func() *seatbook.Book { return seatbook.New(seatbook.Options{Client: operator, Reader: operator}) }
	stored := func(ctx context.Context, license string) *v1alpha1.ModelSeats {
		GinkgoHelper()
		object := &v1alpha1.ModelSeats{}
		Expect(admin.Get(ctx, client.ObjectKey{Name: license}, object)).To(Succeed())
		return object
	}
	licensed := func(ctx context.Context, name string, limits ...string) *v1alpha1.ModelLicense {
		GinkgoHelper()
		license := builders.License(name).Repository("registry.example.com/models/" + name).Namespaces("ml-prod").Limits(limits...).Obj()
		Expect(admin.Create(ctx, license)).To(Succeed())
		return license
	}

	BeforeAll(func(ctx SpecContext) {
		env := &envtest.Environment{}
		config := startEnvironment(env)
		DeferCleanup(env.Stop)
		admin = clientOf(config)
		unlimited := rest.CopyConfig(config)
		unlimited.QPS = -1
		operator = actingAs(unlimited, operatorUser, "system:serviceaccounts")
		for _, namespace := range []string{operatorNamespace, nodeNamespace, "ml-prod"} {
			Expect(admin.Create(ctx, builders.Namespace(namespace).Obj())).To(Succeed())
		}
		applyConfig(ctx, admin, "rbac")
		applyConfig(ctx, admin, "policy")

		informers, err := cache.New(config, cache.Options{Scheme: testScheme})
		Expect(err).NotTo(HaveOccurred())
		view = seatbook.NewView()
		synced, err := view.Watch(ctx, informers)
		Expect(err).NotTo(HaveOccurred())
		running, stop := context.WithCancel(context.Background())
		DeferCleanup(stop)
		go func() { _ = informers.Start(running) }()
		Expect(synced(ctx)).To(Succeed())

		probe := &v1alpha1.ModelSeats{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1alpha1.ModelSeatsSpec{LicenseUID: "u"}}
		Eventually(func() error { return admin.Create(ctx, probe.DeepCopy(), client.DryRunAll) }).
			Should(beRefusedByPolicy("seat ledgers are written by the operator alone"))
		Eventually(func() error { return operator.Create(ctx, probe.DeepCopy(), client.DryRunAll) }).Should(Succeed())
	})

	It("is written by the operator alone", func(ctx SpecContext) {
		license := licensed(ctx, "mine", "pods", "2")
		_, err := book().Do(ctx, "mine", take(license, 1))
		Expect(err).NotTo(HaveOccurred())
		for _, change := range []string{
			`{"spec": {"holders": []}}`, `{"spec": {"limits": {"pods": "99"}}}`, `{"metadata": {"labels": {"a": "b"}}}`,
			`{"metadata": {"annotations": {"a": "b"}}}`, `{"metadata": {"finalizers": ["example.com/kept"]}}`,
			`{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "ml-prod", "uid": "8b8ab4c2-4d2f-4d0e-9a3e-3a5b3b7f0a6c"}]}}`,
		} {
			patch := client.RawPatch(types.MergePatchType, []byte(change))
			Expect(admin.Patch(ctx, stored(ctx, "mine"), patch)).To(beRefusedByPolicy("the operator alone"), change)
		}
		Expect(admin.Delete(ctx, stored(ctx, "mine"))).To(beRefusedByPolicy("the operator alone"))
		Expect(admin.DeleteAllOf(ctx, &v1alpha1.ModelSeats{})).To(beRefusedByPolicy("the operator alone"))
		Expect(admin.Update(ctx, stored(ctx, "mine"))).To(Succeed(), "as it is, as migrations of the storage version do")
		Expect(stored(ctx, "mine").Spec.Holders).To(HaveLen(1))
	})

	It("never holds more than the licence allows, though two operators write it at once", func(ctx SpecContext) {
		const limit, pods, rounds = 5, 24, 4
		license := licensed(ctx, "both", "pods", fmt.Sprint(limit))
		var most, seen atomic.Int64
		view.Subscribe(func(changed string) {
			if l := view.Ledger(changed); changed == "both" && l != nil {
				seen.Add(1)
				most.Store(max(most.Load(), int64(l.Len())))
			}
		})
		books := []*seatbook.Book{book(), book()}
		var wg sync.WaitGroup
		var given, ended atomic.Int64
		for n := range pods {
			wg.Go(func() {
				defer GinkgoRecover()
				for round := range rounds {
					b := books[(n+round)%2]
					results, err := b.Do(ctx, "both", seats.Limit{License: license}, take(license, n))
					Expect(err).NotTo(HaveOccurred())
					if results[1].Changed {
						given.Add(1)
					}
					results, err = books[(n+round+1)%2].Do(ctx, "both", seats.End{Pod: pod(n), At: since.Add(time.Second)})
					Expect(err).NotTo(HaveOccurred())
					if results[0].Ended != nil {
						ended.Add(1)
					}
				}
			})
		}
		wg.Wait()
		ledger, err := seats.Decode(stored(ctx, "both"))
		Expect(err).NotTo(HaveOccurred())
		Expect(ledger.Len()).To(BeZero(), "nobody is left over")
		Expect(given.Load()).To(BeNumerically(">=", limit))
		Expect(ended.Load()).To(Equal(given.Load()), "what was given was ended once")
		Expect(ledger.Usage(since).PodSeconds).To(Equal(given.Load()), "each seat was used for a second")
		Eventually(func() int { return view.Ledger("both").Len() }).Should(BeZero())
		Expect(most.Load()).To(And(BeNumerically(">", 0), BeNumerically("<=", limit)))
		AddReportEntry("seats given", given.Load())
		AddReportEntry("versions of the ledger seen", seen.Load())
	})

	It("is shown to every replica", func(ctx SpecContext) {
		one, other := licensed(ctx, "one"), licensed(ctx, "other")
		b := book()
		for _, license := range []*v1alpha1.ModelLicense{one, other} {
			_, err := b.Do(ctx, license.Name, take(license, 7))
			Expect(err).NotTo(HaveOccurred())
		}
		Eventually(func() []string { return view.LicensesOf(pod(7)) }).Should(Equal([]string{"one", "other"}))
		_, err := b.Do(ctx, "one", seats.End{Pod: pod(7), At: since})
		Expect(err).NotTo(HaveOccurred())
		Expect(b.Drop(ctx, "one")).To(BeTrue())
		Expect(b.Drop(ctx, "other")).To(BeFalse(), "somebody holds a seat")
		Eventually(func() []string { return view.LicensesOf(pod(7)) }).Should(Equal([]string{"other"}))
		Eventually(func() *seats.Ledger { return view.Ledger("one") }).Should(BeNil())
	})

	It("is left alone where it cannot be understood, and says where", func(ctx SpecContext) {
		license := licensed(ctx, "edited", "pods", "2")
		b := book()
		_, err := b.Do(ctx, "edited", take(license, 1))
		Expect(err).NotTo(HaveOccurred())
		object := stored(ctx, "edited")
		object.Spec.Holders[0] = "by hand"
		Expect(operator.Update(ctx, object)).To(Succeed()) // as an admin can, once the policy is gone
		_, err = b.Do(ctx, "edited", take(license, 2))
		Expect(err).To(And(MatchError(seatbook.ErrUndecodable), MatchError(ContainSubstring(`spec.holders[0] "by hand"`))))
		Expect(stored(ctx, "edited").ResourceVersion).To(Equal(object.ResourceVersion))
		Eventually(func() error { return view.Err("edited") }).Should(MatchError(seatbook.ErrUndecodable))
		Expect(operator.Delete(ctx, object)).To(Succeed())
		_, err = b.Do(ctx, "edited", take(license, 2))
		Expect(err).NotTo(HaveOccurred())
	})

	It("takes as many holders as it may have, and a batch of changes then", func(ctx SpecContext) {
		licensed(ctx, "large", "pods", "30000", "nvidia.com/gpu", "100000")
		b := book()
		change := func(n int) seats.Change {
			return seats.Adopt{
				Pod: pod(n), Grant: seats.Grant{Namespace: "ml-prod", Name: fmt.Sprint("chat-", n%100), UID: pod(n % 100)},
				Amount: corev1.ResourceList{
					"nvidia.com/gpu":      *resource.NewQuantity(int64(1+n%8), resource.DecimalSI),
					corev1.ResourceCPU:    *resource.NewQuantity(int64(1+n%32), resource.DecimalSI),
					corev1.ResourceMemory: *resource.NewQuantity(64<<30, resource.BinarySI),
				},
				Node: fmt.Sprintf("node-%d.eu-west-1.compute.internal", n%1000), Since: since,
			}
		}
		for first := 0; first < v1alpha1.MaxSeatHolders; first += 10000 {
			var changes []seats.Change
			for n := first; n < first+10000; n++ {
				changes = append(changes, change(n))
			}
			results, err := b.Do(ctx, "large", changes...)
			Expect(err).NotTo(HaveOccurred())
			Expect(slices.ContainsFunc(results, func(r seats.Result) bool { return !r.OK() })).To(BeFalse())
		}
		results, err := b.Do(ctx, "large", change(v1alpha1.MaxSeatHolders))
		Expect(err).NotTo(HaveOccurred())
		Expect(results[0].Reason).To(Equal(v1alpha1.ReasonLedgerFull))
		data, err := json.Marshal(stored(ctx, "large"))
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("bytes of JSON with 20,000 holders", len(data))

		experiment := gmeasure.NewExperiment("changes to a ledger of 20,000 holders")
		for _, batch := range []int{1, 100} {
			for round := range 3 {
				var changes []seats.Change
				for i := range batch {
					n := (round*batch + i) % v1alpha1.MaxSeatHolders
					changes = append(changes, seats.End{Pod: pod(n), At: since.Add(time.Minute)}, change(n))
				}
				experiment.MeasureDuration(fmt.Sprintf("%d ends and %d takes", batch, batch), func() {
					_, err := b.Do(ctx, "large", changes...)
					Expect(err).NotTo(HaveOccurred())
				})
			}
		}
		AddReportEntry(experiment.Name, experiment)
		Eventually(func() []string { return view.LicensesOf(pod(19999)) }).Should(Equal([]string{"large"}))
	})

	It("is refused by the API server where it is none", func(ctx SpecContext) {
		for name, spec := range map[string]v1alpha1.ModelSeatsSpec{
			"long line":   {LicenseUID: "u", Holders: []string{string(make([]byte, 65))}},
			"generation":  {LicenseUID: "u", LicenseGeneration: -1},
			"many limits": {LicenseUID: "u", Nodes: slices.Repeat([]string{"n"}, 5001)},
		} {
			err := operator.Create(ctx, &v1alpha1.ModelSeats{ObjectMeta: metav1.ObjectMeta{Name: "bad"}, Spec: spec})
			Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%s: %v", name, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := book().Do(ended, "mine", seats.Renew{Pod: pod(1)})
		Expect(errors.Is(err, seatbook.ErrNotStored)).To(BeTrue())
	})
})

package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/controllers"
	"modelrights.dev/modelrights/internal/audit"
)

var _ = Describe("The audit log", Ordered, ContinueOnFailure, func() {
	var (
		config *rest.Config
		c      client.WithWatch
	)

	BeforeAll(func() {
		env := &envtest.Environment{}
		config = startEnvironment(env)
		DeferCleanup(env.Stop)
		var err error
		unlimited := rest.CopyConfig(config)
		unlimited.QPS = -1
		c, err = client.NewWithWatch(unlimited, client.Options{Scheme: testScheme})
		Expect(err).NotTo(HaveOccurred())
	})

	AfterEach(func(ctx SpecContext) {
		Expect(c.DeleteAllOf(ctx, &v1alpha1.ModelAuditRecord{})).To(Succeed())
		Expect(c.DeleteAllOf(ctx, &v1alpha1.ModelAuditLog{})).To(Succeed())
		Eventually(func() (int64, error) {
			count, _, err := audit.Count(ctx, c)
			return count, err
		}).WithContext(ctx).Should(BeZero())
	})

	leaf := func(n int) string {
		return fmt.Sprintf(`{"id":"%d","time":"2026-11-21T12:00:00Z","type":"Admitted","v":1}`, n)
	}
	record := func(name string, first int64, entries ...string) *v1alpha1.ModelAuditRecord {
		return &v1alpha1.ModelAuditRecord{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1alpha1.ModelAuditRecordSpec{FirstIndex: first, Summary: "Admitted", Entries: entries},
		}
	}
	start := func(writer client.Client, identity string, change ...func(*audit.Options)) *audit.Log {
		GinkgoHelper()
		options := audit.Options{Client: writer, Reader: writer, Identity: identity, Linger: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond}
		for _, f := range change {
			f(&options)
		}
		log, err := audit.New(options)
		Expect(err).NotTo(HaveOccurred())
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- log.Start(ctx) }()
		DeferCleanup(func() {
			cancel()
			Eventually(ended).Should(Receive(BeNil()))
		})
		return log
	}
	admitted := func(n int) audit.Entry {
		return audit.Entry{Type: audit.Admitted, ID: strconv.Itoa(n), Namespace: "ml-prod", Pod: audit.Object{Name: "llm"}, License: audit.Object{Name: "acme"}}
	}
	// whole reads the log, which must be without a fault.
	whole := func(ctx context.Context) []audit.Located {
		GinkgoHelper()
		var check audit.Checker
		for record, err := range audit.Records(ctx, c, 0) {
			Expect(err).NotTo(HaveOccurred())
			check.Add(record)
		}
		Expect(check.Faults).To(BeEmpty())
		var entries []audit.Located
		for e, err := range audit.Entries(ctx, c, 0) {
			Expect(err).NotTo(HaveOccurred())
			entries = append(entries, e)
		}
		Expect(entries).To(HaveLen(int(check.Size)))
		return entries
	}

	DescribeTable("refuses records that are none", func(ctx SpecContext, bad *v1alpha1.ModelAuditRecord, says string) {
		err := c.Create(ctx, bad)
		Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(ContainSubstring(says)))
	},
		Entry("a name that is not the index", record("00000000000000000002", 1, leaf(1)), "metadata.name must be spec.firstIndex"),
		Entry("a name without zeros", record("1", 1, leaf(1)), "metadata.name must be spec.firstIndex"),
		Entry("a name that is no number", record("first", 0, leaf(1)), "metadata.name must be spec.firstIndex"),
		Entry("a negative index", record("-0000000000000000001", -1, leaf(1)), ""),
		Entry("no entry", record("00000000000000000001", 1), "spec.entries"),
		Entry("an empty entry", record("00000000000000000001", 1, ""), "spec.entries[0]"),
		Entry("too many entries", record("00000000000000000001", 1, strings.Split(strings.Repeat(leaf(1)+"\n", 256)+leaf(1), "\n")...), "must have at most 256 items"),
		Entry("an entry that is too long", record("00000000000000000001", 1, strings.Repeat("x", audit.MaxLeafBytes+1)), "spec.entries[0]"),
	)

	It("takes the largest record and the last name", func(ctx SpecContext) {
		largest := record(audit.RecordName(0), 0)
		for range audit.MaxRecordEntries {
			largest.Spec.Entries = append(largest.Spec.Entries, strings.Repeat("x", 3000))
		}
		Expect(c.Create(ctx, largest)).To(Succeed())
		Expect(c.Create(ctx, record("09223372036854775807", 1<<63-1, leaf(1)))).To(Succeed())
	})

	It("never changes a record", func(ctx SpecContext) {
		Expect(c.Create(ctx, record(audit.RecordName(0), 0, leaf(0), leaf(1)))).To(Succeed())
		for name, change := range map[string]func(*v1alpha1.ModelAuditRecord){
			"an entry": func(r *v1alpha1.ModelAuditRecord) { r.Spec.Entries[0] = leaf(7) },
			"fewer":    func(r *v1alpha1.ModelAuditRecord) { r.Spec.Entries = r.Spec.Entries[:1] },
			"more":     func(r *v1alpha1.ModelAuditRecord) { r.Spec.Entries = append(r.Spec.Entries, leaf(2)) },
			"another order": func(r *v1alpha1.ModelAuditRecord) {
				r.Spec.Entries[0], r.Spec.Entries[1] = r.Spec.Entries[1], r.Spec.Entries[0]
			},
			"the summary": func(r *v1alpha1.ModelAuditRecord) { r.Spec.Summary = "other" },
		} {
			stored := &v1alpha1.ModelAuditRecord{}
			Expect(c.Get(ctx, client.ObjectKey{Name: audit.RecordName(0)}, stored)).To(Succeed())
			change(stored)
			Expect(c.Update(ctx, stored)).To(MatchError(ContainSubstring("an audit record cannot be changed")), name)
		}
	})

	It("has one head", func(ctx SpecContext) {
		err := c.Create(ctx, &v1alpha1.ModelAuditLog{ObjectMeta: metav1.ObjectMeta{Name: "second"}})
		Expect(err).To(MatchError(ContainSubstring("metadata.name must be cluster")))
	})

	It("holds entries of hostile strings, full records of them", func(ctx SpecContext) {
		log := start(c, "operator-0", func(o *audit.Options) { o.Linger = 100 * time.Millisecond })
		var wg sync.WaitGroup
		for n := range 600 {
			hostile := strings.Repeat([]string{"<>&", `"\`, "\x00\xff", "𝕏", "x"}[n%5], audit.MaxLeafBytes)
			wg.Go(func() {
				defer GinkgoRecover()
				_, err := log.Append(ctx, audit.Entry{
					Type: audit.KeyReleased, ID: strconv.Itoa(n), Pod: audit.Object{Name: hostile}, Owner: audit.Owner{Kind: hostile, Name: hostile},
					Images: []string{hostile, hostile}, Message: hostile, Actor: hostile, Node: hostile, ServiceAccount: hostile, Namespace: hostile,
				})
				Expect(err).NotTo(HaveOccurred())
			})
		}
		wg.Wait()
		Expect(whole(ctx)).To(HaveLen(600))
	})

	It("takes four writers at once, whose requests fail before and after the commit", func(ctx SpecContext) {
		const writers, each = 4, 250
		var wg sync.WaitGroup
		for w := range writers {
			var n atomic.Int64
			faulty := interceptor.NewClient(c, interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
					cut := errors.New("connection reset by peer")
					switch n.Add(1) % 5 {
					case 1:
						return cut
					case 3:
						return errors.Join(cut, c.Create(ctx, obj, opts...))
					}
					return c.Create(ctx, obj, opts...)
				},
			})
			log := start(faulty, fmt.Sprintf("operator-%d", w))
			for i := range each {
				wg.Go(func() {
					defer GinkgoRecover()
					_, err := log.Append(ctx, admitted(w*each+i))
					Expect(err).NotTo(HaveOccurred())
				})
			}
		}
		wg.Wait()
		seen := map[string]int{}
		for _, e := range whole(ctx) {
			seen[e.Entry.ID]++
		}
		Expect(seen).To(HaveLen(writers * each))
		Expect(seen).To(HaveEach(1))
	}, SpecTimeout(specTimeout))

	It("goes on after an operator was killed between commit and answer", func(ctx SpecContext) {
		committed := make(chan struct{})
		deaf := interceptor.NewClient(c, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				if err := c.Create(ctx, obj, opts...); err != nil {
					return err
				}
				close(committed)
				<-ctx.Done()
				return ctx.Err()
			},
		})
		killed, err := audit.New(audit.Options{Client: deaf, Reader: deaf, Identity: "operator-0", FlushTimeout: time.Millisecond})
		Expect(err).NotTo(HaveOccurred())
		alive, kill := context.WithCancel(ctx)
		defer kill()
		ended, answer := make(chan error, 1), make(chan error, 1)
		go func() { ended <- killed.Start(alive) }()
		go func() {
			_, err := killed.Append(ctx, admitted(1))
			answer <- err
		}()
		Eventually(committed).Should(BeClosed())
		kill()
		Eventually(answer).Should(Receive(MatchError(audit.ErrNotDurable)))
		Eventually(ended).Should(Receive(BeNil()))

		index, err := start(c, "operator-1").Append(ctx, admitted(1))
		Expect(err).NotTo(HaveOccurred())
		Expect(index).To(Equal(int64(1)))
		entries := whole(ctx)
		Expect(entries).To(HaveLen(2))
		Expect(entries[0].Entry.ID).To(Equal(entries[1].Entry.ID), "a reader sees that it is a retry")
	})

	It("is read from any index, page by page", func(ctx SpecContext) {
		const size = 130
		first := int64(0)
		for n := int64(1); first < size; n = n%3 + 1 {
			var leaves []string
			for i := range n {
				leaves = append(leaves, leaf(int(first+i)))
			}
			Expect(c.Create(ctx, record(audit.RecordName(first), first, leaves...))).To(Succeed())
			first += n
		}
		for _, from := range []int64{0, 1, 2, 64, first - 1, first, first + 100} {
			next := from
			for e, err := range audit.Entries(ctx, c, from) {
				Expect(err).NotTo(HaveOccurred())
				Expect(e.Index).To(Equal(next))
				Expect(e.Entry.ID).To(Equal(strconv.FormatInt(next, 10)))
				next++
			}
			Expect(next).To(Equal(max(first, from)), "from %d", from)
		}
		Expect(audit.End(ctx, c)).To(Equal(first))
	})

	Context("with its controller", func() {
		head := func(ctx context.Context) (v1alpha1.ModelAuditLogStatus, error) {
			head := &v1alpha1.ModelAuditLog{}
			err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditLogName}, head)
			return head.Status, err
		}
		var statusWrites *atomic.Int64

		BeforeEach(func() {
			mgr, err := ctrl.NewManager(config, ctrl.Options{
				Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Logger: GinkgoLogr,
				Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)}, // one manager a spec, all with the same names
			})
			Expect(err).NotTo(HaveOccurred())
			writes := &atomic.Int64{}
			statusWrites = writes
			live := interceptor.NewClient(c, interceptor.Funcs{
				SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
					writes.Add(1)
					return c.SubResource(sub).Update(ctx, obj, opts...)
				},
			})
			Expect((&controllers.AuditLogReconciler{Live: live, Debounce: 300 * time.Millisecond}).SetupWithManager(mgr)).To(Succeed())
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- mgr.Start(ctx) }()
			DeferCleanup(func() {
				cancel()
				Eventually(ended).Should(Receive(BeNil()))
			})
			Eventually(head).WithContext(context.Background()).Should(HaveField("Size", HaveValue(BeZero())))
		})

		It("counts what is written, with few writes of its own", func(ctx SpecContext) {
			log := start(c, "operator-0", func(o *audit.Options) { o.Linger = time.Millisecond })
			const size = 300
			for n := range size {
				_, err := log.Append(ctx, admitted(n))
				Expect(err).NotTo(HaveOccurred())
			}
			Eventually(head).WithContext(ctx).Should(HaveField("Size", HaveValue(BeEquivalentTo(size))))
			status, err := head(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(ptr.Deref(status.Records, 0)).To(BeEquivalentTo(size))
			Expect(status.LastRecord).To(Equal(audit.RecordName(size - 1)))
			Expect(status.LastRecordTime).NotTo(BeNil())
			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			Expect(ready).To(HaveField("Reason", string(v1alpha1.ReasonLogComplete)))
			Expect(ready.ObservedGeneration).NotTo(BeZero())
			Expect(statusWrites.Load()).To(BeNumerically("<", size/4))

			Expect(audit.End(ctx, c)).To(BeEquivalentTo(size))
		})

		It("says which entries are missing, and goes on", func(ctx SpecContext) {
			log := start(c, "operator-0", func(o *audit.Options) { o.Linger = time.Millisecond })
			for n := range 5 {
				_, err := log.Append(ctx, admitted(n))
				Expect(err).NotTo(HaveOccurred())
			}
			Eventually(head).WithContext(ctx).Should(HaveField("Size", HaveValue(BeEquivalentTo(5))))
			Expect(c.Delete(ctx, record(audit.RecordName(2), 2))).To(Succeed())
			gap := And(HaveField("Reason", string(v1alpha1.ReasonLogGap)), HaveField("Status", metav1.ConditionFalse),
				HaveField("Message", ContainSubstring("entry 2 is missing")))
			condition := func() (*metav1.Condition, error) {
				status, err := head(ctx)
				return meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady), err
			}
			// The log is not gone through more than once in a while.
			Eventually(condition).Should(gap)
			_, err := log.Append(ctx, admitted(5))
			Expect(err).NotTo(HaveOccurred())
			Eventually(head).WithContext(ctx).Should(HaveField("Size", HaveValue(BeEquivalentTo(6))))
			Expect(condition()).To(gap)
		}, SpecTimeout(specTimeout))
	})
})

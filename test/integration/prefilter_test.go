package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"modelrights.dev/modelrights/internal/admissionconfig"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/internal/prefilter"
	"modelrights.dev/modelrights/test/builders"
)

// noAnswer is where nobody listens: port 1 of this machine.
const noAnswer = "https://127.0.0.1:1"

// filtered is an API server with configurations that hold a filter, and nobody who answers: a pod that matches is refused
// for that, and every other is stored.
type filtered struct {
	config *rest.Config
	client client.Client
	filter prefilter.Filter
}

func startFiltered(ctx context.Context, patterns ...string) *filtered {
	GinkgoHelper()
	env := &envtest.Environment{}
	f := &filtered{config: startEnvironment(env)}
	f.config.QPS, f.config.Burst = 200, 400
	DeferCleanup(env.Stop)
	f.client = clientOf(f.config)
	applyConfig(ctx, f.client, "webhook")
	f.install(ctx, patterns...)
	return f
}

// install writes the configurations for patterns, and waits until they are in force.
func (f *filtered) install(ctx context.Context, patterns ...string) {
	GinkgoHelper()
	f.filter = filterOf(patterns...)
	state := admissionconfig.State{Filter: f.filter, CABundle: f.config.CAData}
	writer := &addressed{Client: f.client, at: noAnswer}
	mutating, err := admissionconfig.MutatingApply(admissionconfig.Pods, admissionconfig.MutatingPods(operatorSettings(), state))
	Expect(err).NotTo(HaveOccurred())
	Expect(writer.Apply(ctx, mutating, client.FieldOwner("modelrights-operator"), client.ForceOwnership)).To(Succeed())
	validating, err := admissionconfig.ValidatingApply(admissionconfig.Pods, admissionconfig.ValidatingPods(operatorSettings(), state))
	Expect(err).NotTo(HaveOccurred())
	Expect(writer.Apply(ctx, validating, client.FieldOwner("modelrights-operator"), client.ForceOwnership)).To(Succeed())
	probe := builders.Pod("default", "in-force").Container("main", plainImage).KeyVolume("any", "main")
	if len(patterns) > 0 {
		probe = builders.Pod("default", "in-force").Container("main", strings.ReplaceAll(patterns[len(patterns)-1], "**", "x"))
	}
	Eventually(func() error { return f.client.Create(ctx, probe.Obj(), client.DryRunAll) }).WithContext(ctx).
		Should(beSent())
}

func filterOf(patterns ...string) prefilter.Filter {
	GinkgoHelper()
	parsed := make([]images.Pattern, len(patterns))
	for i, raw := range patterns {
		var err error
		parsed[i], err = images.ParsePattern(raw)
		Expect(err).NotTo(HaveOccurred())
	}
	return prefilter.New(slices.Values(parsed))
}

// beSent matches the error of a request that the API server sent to a webhook of ours, and nobody answered.
func beSent() OmegaMatcher {
	return MatchError(MatchRegexp(`failed calling webhook "(mutate|validate)\.pods\.modelrights\.dev": failed to call webhook: Post "https://127\.0\.0\.1:1/`))
}

// widest are patterns of which the filter is as long as it may be.
func widest() []string {
	patterns := make([]string, 64)
	for i := range patterns {
		patterns[i] = fmt.Sprintf("registry.example.com/team-%02d-longer-name/model-%02d", i, i)
	}
	return patterns
}

var _ = Describe("The filter in the API server", Ordered, ContinueOnFailure, func() {
	var f *filtered

	BeforeAll(func(ctx SpecContext) {
		f = startFiltered(ctx, widest()...)
		Expect(f.filter.Coarse()).To(BeFalse())
		Expect(f.client.Create(ctx, builders.Namespace("ml").Obj())).To(Succeed())
	}, NodeTimeout(specTimeout))

	// evaluationErrors are those that the API server counted.
	evaluationErrors := func(ctx context.Context) float64 {
		return apiServerMetric(ctx, f.config, "apiserver_admission_match_condition_evaluation_errors_total", "")
	}

	for name, build := range worstPods() {
		It("has an answer for "+name, func(ctx SpecContext) {
			pod := build()
			switch err := f.client.Create(ctx, pod.DeepCopy(), client.DryRunAll); {
			case f.filter.Matches(&pod.Spec, nil):
				Expect(err).To(beSent())
			case strings.HasPrefix(name, "valid: "):
				Expect(err).NotTo(HaveOccurred())
			case err != nil:
				Expect(err).To(MatchError(Not(ContainSubstring("modelrights"))))
			}
			Expect(evaluationErrors(ctx)).To(BeZero())
		}, SpecTimeout(specTimeout))
	}

	It("has an answer for updates of the worst pods that are stored", func(ctx SpecContext) {
		for name, build := range worstPods() {
			stored := build()
			if !strings.HasPrefix(name, "valid: ") || f.filter.Matches(&stored.Spec, nil) {
				continue
			}
			Expect(f.client.Create(ctx, stored)).To(Succeed(), name)
			updated := stored.DeepCopy()
			updated.Spec.Containers[0].Image = "quay.io/acme/other:1"
			Expect(f.client.Update(ctx, updated)).To(Succeed(), name)
			updated.Spec.Containers[0].Image = "registry.example.com/team-01-longer-name/model-01"
			Expect(f.client.Update(ctx, updated)).To(beSent(), name)
			Expect(f.client.Delete(ctx, stored, client.GracePeriodSeconds(0))).To(Succeed())
		}
		Expect(evaluationErrors(ctx)).To(BeZero())
	}, SpecTimeout(specTimeout))

	It("matches what its twin in Go matches", func(ctx SpecContext) {
		rng := rand.New(rand.NewPCG(1, uint64(GinkgoRandomSeed())))
		sent := 0
		for range 400 {
			pod := randomPod(rng)
			err := f.client.Create(ctx, pod.DeepCopy(), client.DryRunAll)
			if f.filter.Matches(&pod.Spec, nil) {
				sent++
				Expect(err).To(beSent(), "%+v", pod.Spec)
			} else if err != nil {
				Expect(err).To(MatchError(Not(ContainSubstring("modelrights"))), "%+v", pod.Spec)
			}
		}
		Expect(sent).To(And(BeNumerically(">", 100), BeNumerically("<", 350)), "some match, and some do not")
		Expect(evaluationErrors(ctx)).To(BeZero())
	}, SpecTimeout(specTimeout))

	It("costs little for ordinary pods", func(ctx SpecContext) {
		for _, filter := range []struct {
			name     string
			patterns []string
		}{{"nothing governed", nil}, {"five licences", widest()[:5]}, {"the widest filter", widest()}} {
			f.install(ctx, filter.patterns...)
			sum, count := "apiserver_admission_match_condition_evaluation_seconds_sum", "apiserver_admission_match_condition_evaluation_seconds_count"
			read := func(name string) float64 { return apiServerMetric(ctx, f.config, name, "modelrights.dev") }
			before, n := read(sum), read(count)
			for range 500 {
				Expect(f.client.Create(ctx, ordinaryPod().Obj(), client.DryRunAll)).To(Succeed())
			}
			evaluations := read(count) - n
			Expect(evaluations).To(BeNumerically(">=", 1000))
			each := time.Duration((read(sum) - before) / evaluations * float64(time.Second))
			AddReportEntry("match condition, ordinary pod, "+filter.name, each.String())
			GinkgoWriter.Println(filter.name, each)
			Expect(each).To(BeNumerically("<", 30*time.Millisecond), filter.name)
		}
	}, SpecTimeout(specTimeout))

	It("lets everything pass but our driver's volumes where nothing is governed", func(ctx SpecContext) {
		f.install(ctx)
		for _, image := range []string{plainImage, "sha256:01ab", "Not/A/Reference", chatImage} {
			Expect(f.client.Create(ctx, builders.Pod("ml", "any").Container("main", image).Args("main", "oci://"+chatImage).Obj(), client.DryRunAll)).To(Succeed())
		}
		Expect(f.client.Create(ctx, builders.Pod("ml", "any").Container("main", plainImage).KeyVolume("any", "main").Obj(), client.DryRunAll)).To(beSent())
	})
})

// ordinaryPod has what pods of services have.
func ordinaryPod() *builders.PodBuilder {
	b := builders.Pod("ml", "").GenerateName("ordinary-")
	for i, image := range []string{
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com/platform/web:v1.2.3@sha256:" + strings.Repeat("a", 64), "docker.io/istio/proxyv2:1.24.0",
	} {
		name := fmt.Sprintf("c%d", i)
		b = b.Container(name, image).Args(name, "--listen=:8080", "--upstream=https://api.example.com/v1").Command(name, "/bin/server")
		for j := range 10 {
			b = b.Env(name, fmt.Sprintf("VARIABLE_%d", j), "some value")
		}
	}
	return b.InitContainer("init", "busybox:1.36").EmptyDir("tmp", "c0").EmptyDir("cache", "c1")
}

// worstPods are as dear for the filter as a request of three million bytes can make them. Those whose name begins with
// "valid: " are valid pods that etcd takes.
func worstPods() map[string]func() *corev1.Pod {
	const image = "registry-of-others.example.com/some/path/of/components/that-are-many/web:v1.2.3"
	pod := func(change func(*corev1.Pod)) func() *corev1.Pod {
		return func() *corev1.Pod {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "worst"}}
			change(p)
			return p
		}
	}
	containers := func(n int, change func(i int, c *corev1.Container)) func() *corev1.Pod {
		return pod(func(p *corev1.Pod) {
			p.Spec.Containers = make([]corev1.Container, n)
			for i := range p.Spec.Containers {
				p.Spec.Containers[i] = corev1.Container{Name: fmt.Sprintf("c%d", i), Image: image}
				change(i, &p.Spec.Containers[i])
			}
		})
	}
	variables := func(n int, value string) []corev1.EnvVar {
		all := make([]corev1.EnvVar, n)
		for i := range all {
			all[i] = corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: value}
		}
		return all
	}
	return map[string]func() *corev1.Pod{
		"valid: an argument of a million characters": containers(1, func(_ int, c *corev1.Container) { c.Args = []string{strings.Repeat("x", 1<<20)} }),
		"valid: an argument of a million characters that hold URLs": containers(1, func(_ int, c *corev1.Container) {
			c.Args = []string{strings.Repeat("https://", 1<<17)}
		}),
		"valid: URLs at the limit": containers(1, func(_ int, c *corev1.Container) { c.Args = []string{strings.Repeat("https://", 65_536/8)} }),
		"an argument of nearly three million characters": containers(1, func(_ int, c *corev1.Container) {
			c.Args = []string{strings.Repeat("x", 2_900_000)}
		}),
		"valid: 64 KiB of argument in each of 20 containers": containers(20, func(_ int, c *corev1.Container) { c.Args = []string{strings.Repeat("x", 64<<10)} }),
		"valid: 64 KiB of URL in each of 20 containers": containers(20, func(_ int, c *corev1.Container) {
			c.Args = []string{"https://" + strings.Repeat("x", 64<<10)}
		}),
		"valid: 20,000 plain variables":    containers(1, func(_ int, c *corev1.Container) { c.Env = variables(20_000, "x") }),
		"valid: 20,000 variables":          containers(1, func(_ int, c *corev1.Container) { c.Env = variables(20_000, "https://a") }),
		"valid: variables at the limit":    containers(2, func(_ int, c *corev1.Container) { c.Env = variables(1024, "https://a.example/x") }),
		"valid: 1,000 containers":          containers(1000, func(int, *corev1.Container) {}),
		"valid: 256 containers":            containers(256, func(_ int, c *corev1.Container) { c.Image = "a.b/c" }),
		"valid: 30 containers":             containers(30, func(int, *corev1.Container) {}),
		"valid: 20 containers":             containers(20, func(int, *corev1.Container) {}),
		"100,000 containers":               containers(100_000, func(_ int, c *corev1.Container) { *c = corev1.Container{} }),
		"valid: a long image":              containers(1, func(_ int, c *corev1.Container) { c.Image = "a.b/" + strings.Repeat("c/", 500) + "c" }),
		"an image of a million characters": containers(1, func(_ int, c *corev1.Container) { c.Image = strings.Repeat("a/", 500_000) + "a" }),
		"valid: 512 volumes": pod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
			for i := range 512 {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.example.com"}}})
			}
		}),
		"valid: 5,000 volumes": pod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
			for i := range 5000 {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			}
		}),
		"no containers":             pod(func(*corev1.Pod) {}),
		"nothing in its containers": containers(1, func(_ int, c *corev1.Container) { *c = corev1.Container{} }),
		"every limit at once": pod(func(p *corev1.Pod) {
			spare := tensOfImages() - 256 // one for each image
			for i := range 256 {
				c := corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "ab.cd/abc"}
				for ; spare > 0 && len(c.Image) < 240; spare-- {
					c.Image += "aaaaaaaaaa"
				}
				c.Env = variables(8, "https://xxxxxxxx")
				p.Spec.Containers = append(p.Spec.Containers, c)
			}
			p.Spec.Containers[0].Env[0].Value = strings.Repeat("x", 2_700_000)
			for i := range 512 {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.example.com"}}})
			}
		}),
	}
}

// tensOfImages is how many tens of characters images may have together, as the widest filter's expression says.
func tensOfImages() int {
	GinkgoHelper()
	found := regexp.MustCompile(`size\(i\) / 10 \+ 1\)\.sum\(\) > (\d+)`).FindStringSubmatch(filterOf(widest()...).Expression())
	Expect(found).To(HaveLen(2))
	tens, err := strconv.Atoi(found[1])
	Expect(err).NotTo(HaveOccurred())
	return tens
}

// randomPod is a pod of odd parts.
func randomPod(rng *rand.Rand) *corev1.Pod {
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	image := func() string {
		switch rng.IntN(12) {
		case 0:
			return pick("sha256:01ab", strings.Repeat("0123456789abcdef", 4), "Upper/Case", "a..b/c", "a.b/c:"+strings.Repeat("t", 129), "a.b/"+strings.Repeat("c", 260), "é.b/c")
		case 1, 2:
			n := rng.IntN(66)
			return fmt.Sprintf("%steam-%02d-longer-name/model-%02d%s", pick("", "a.b/", "REGISTRY.example.com:0443/", "a.b/c/", "x"), n, n, pick("", ":1", "-x", "/x", "@sha256:"+strings.Repeat("a", 64)))
		default:
			return pick(plainImage, "nginx", "a.b:5000/c/d:e", "[2001:db8::1]:5000/web", "docker.io/library/x@sha256:"+strings.Repeat("b", 64), "A.B/c", "localhost/x_y--z.w")
		}
	}
	text := func() string {
		return pick("", "x", "--flag", "https://example.com", "http://a/b oci:/", "é://", strings.Repeat("é", 300)) +
			[]string{"", "", "", "", "", "", pick("oci://a", "OCI+Native://x", "kserve+oci+fetch://y", "ModelCar://z")}[rng.IntN(7)]
	}
	b := builders.Pod("ml", "random")
	for i := range 1 + rng.IntN(3) {
		name := fmt.Sprintf("c%d", i)
		b = b.Container(name, image())
		for range rng.IntN(3) {
			b = b.Args(name, text()).Command(name, "run", text()).Env(name, "V", text())
		}
	}
	if rng.IntN(3) == 0 {
		b = b.InitContainer("init", image()).Args("init", text())
	}
	if rng.IntN(8) == 0 {
		b = b.ImageVolume("weights", image(), "c0")
	}
	if rng.IntN(12) == 0 {
		b = b.KeyVolume("any", "c0")
	}
	pod := b.Obj()
	if rng.IntN(4) == 0 {
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
	}
	return pod
}

// apiServerMetric is the sum of the API server's samples of that name, of which the labels hold a text.
func apiServerMetric(ctx context.Context, config *rest.Config, name, holds string) float64 {
	GinkgoHelper()
	c, err := kubernetes.NewForConfig(config)
	Expect(err).NotTo(HaveOccurred())
	content, err := c.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	Expect(err).NotTo(HaveOccurred())
	sum := 0.0
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, holds) {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		Expect(err).NotTo(HaveOccurred())
		sum += value
	}
	Expect(lines.Err()).NotTo(HaveOccurred())
	return sum
}

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"modelrights.dev/modelrights/api/v1alpha1"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// examplesIn are the blocks of YAML of a page, cut into documents.
func examplesIn(page string) []string {
	GinkgoHelper()
	content, err := os.ReadFile(page)
	Expect(err).NotTo(HaveOccurred())
	var documents []string
	for _, block := range yamlBlock.FindAllStringSubmatch(string(content), -1) {
		documents = append(documents, regexp.MustCompile(`(?m)^---$`).Split(block[1], -1)...)
	}
	return documents
}

// ours is the object of a document, if it is a whole one of our kinds; in namespace default, which is there.
func ours(document string) *unstructured.Unstructured {
	GinkgoHelper()
	object := &unstructured.Unstructured{}
	Expect(yaml.Unmarshal([]byte(document), &object.Object)).To(Succeed(), document)
	if object.GroupVersionKind().Group != v1alpha1.GroupVersion.Group {
		return nil
	}
	if object.GetNamespace() != "" {
		object.SetNamespace("default")
	}
	return object
}

var _ = Describe("Examples of the documentation", func() {
	strict := client.FieldValidation(metav1.FieldValidationStrict)

	It("are accepted, where they are whole", func(ctx SpecContext) {
		pages, err := filepath.Glob("../../docs/*.md")
		Expect(err).NotTo(HaveOccurred())
		howTos, err := filepath.Glob("../../docs/how-to/*.md")
		Expect(err).NotTo(HaveOccurred())
		accepted := 0
		for _, page := range append(append(pages, howTos...), "../../README.md") {
			for _, document := range examplesIn(page) {
				if object := ours(document); object != nil {
					Expect(k8sClient.Create(ctx, object, client.DryRunAll, strict)).To(Succeed(), "%s:\n%s", page, document)
					accepted++
				}
			}
		}
		Expect(accepted).To(BeNumerically(">=", 4), "examples are not found any more")
	})

	It("are accepted for each term, in place of what the first example says", func(ctx SpecContext) {
		const page = "../../docs/terms.md"
		base, shown := map[string]*unstructured.Unstructured{}, ""
		DeferCleanup(func(ctx SpecContext) {
			for _, object := range base {
				Expect(client.IgnoreNotFound(k8sClient.Delete(ctx, object))).To(Succeed())
			}
		})
		for _, document := range examplesIn(page) {
			if object := ours(document); object != nil {
				object.SetName("docs-example")
				Expect(k8sClient.Create(ctx, object, strict)).To(Succeed())
				base[object.GetKind()] = object
				continue
			}
			comment, _, _ := strings.Cut(document, "\n")
			kind := regexp.MustCompile(`^# (Model\w+)`).FindStringSubmatch(comment)
			Expect(kind).To(HaveLen(2), "the first line of a part says of which kind it is:\n%s", document)
			Expect(base).To(HaveKey(kind[1]), document)
			patch, err := yaml.YAMLToJSON([]byte(document))
			Expect(err).NotTo(HaveOccurred())
			Expect(k8sClient.Patch(ctx, base[kind[1]].DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.DryRunAll, strict)).To(Succeed(), document)
			shown += document
		}
		for _, term := range []string{
			"pods", "nodes", "nvidia.com/gpu", "overage", "surge", "notBefore", "notAfter", "gracePeriod", "graceAdmits", "actions", "action", "purposes", "purpose",
			"nodeSelector", "suspended", "onRevoke", "leaseDuration", "exec", "enforcement",
		} {
			Expect(shown).To(MatchRegexp(`\b`+regexp.QuoteMeta(term)+`:`), "no example of %s alone", term)
		}
	})
})

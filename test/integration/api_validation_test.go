package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/images"
	"modelrights.dev/modelrights/test/builders"
)

var _ = Describe("API validation", func() {
	type m = map[string]any

	license := func() *v1alpha1.ModelLicense {
		return builders.License("acme-chat").RepositoryWithKey("registry.example.com/models/chat", "v2").Key("v2").Namespaces("ml-prod").Obj()
	}
	grant := func() *v1alpha1.ModelGrant {
		return builders.Grant("default", "chat", "acme-chat").ServiceAccount("llm").Obj()
	}
	refuse := func(ctx SpecContext, object *unstructured.Unstructured, says []string) {
		GinkgoHelper()
		err := k8sClient.Create(ctx, object, client.DryRunAll)
		Expect(err).To(HaveOccurred())
		Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%v", err)
		for _, part := range says {
			Expect(err.Error()).To(ContainSubstring(part))
		}
	}

	It("accepts the samples and what the builders make", func(ctx SpecContext) {
		for _, object := range configManifests("samples") {
			if object.GroupVersionKind().Group != v1alpha1.GroupVersion.Group {
				continue
			}
			if object.GetNamespace() != "" {
				object.SetNamespace("default")
			}
			Expect(k8sClient.Create(ctx, object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))).To(Succeed(), object.GetName())
		}
		Expect(k8sClient.Create(ctx, license(), client.DryRunAll)).To(Succeed())
		Expect(k8sClient.Create(ctx, grant(), client.DryRunAll)).To(Succeed())
		selecting := changed(license(), at("spec", "allowedNamespaces"), m{"selector": m{
			"matchLabels":      m{"app.kubernetes.io/name": "a", "b": ""},
			"matchExpressions": []m{{"key": "c", "operator": "In", "values": []string{"d"}}, {"key": "e", "operator": "DoesNotExist"}},
		}})
		Expect(k8sClient.Create(ctx, selecting, client.DryRunAll)).To(Succeed())
		most := m{"matchLabels": m{}, "matchExpressions": []m{}}
		prefix := strings.Repeat(strings.Repeat("p", 49)+".", 5) + "pp/"
		for i := range 16 {
			name := fmt.Sprintf("%063d", i)
			most["matchLabels"].(m)[prefix+name] = name
			most["matchExpressions"] = append(most["matchExpressions"].([]m), m{
				"key": prefix + name, "operator": "NotIn", "values": many(64, func(j int) string { return fmt.Sprintf("%063d", j) }),
			})
		}
		Expect(k8sClient.Create(ctx, changed(license(), at("spec", "allowedNamespaces"), m{"selector": most}), client.DryRunAll)).To(Succeed())
		Expect(k8sClient.Create(ctx, changed(grant(), at("spec", "podSelector"), most), client.DryRunAll)).To(Succeed())
		Expect(k8sClient.Create(ctx, builders.License(strings.Repeat("x", 50)).Repository("registry.example.com/m").Obj(), client.DryRunAll)).To(Succeed())
	})

	It("accepts what the documents show", func(ctx SpecContext) {
		paths, err := filepath.Glob("../../docs/how-to/*.md")
		Expect(err).NotTo(HaveOccurred())
		shown := map[string]bool{}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			Expect(err).NotTo(HaveOccurred())
			for _, block := range regexp.MustCompile("(?s)```yaml\n(apiVersion: modelrights.dev/.*?)```").FindAllSubmatch(text, -1) {
				for _, object := range parseManifests(block[1]) {
					if object.GetNamespace() != "" {
						object.SetNamespace("default")
					}
					Expect(k8sClient.Create(ctx, object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))).To(Succeed(), path)
					shown[object.GetKind()] = true
				}
			}
		}
		Expect(shown).To(And(HaveKey("ModelLicense"), HaveKey("ModelGrant")))
	})

	It("defaults the kind of subjects and the entry of Secrets", func(ctx SpecContext) {
		l := changed(license(), at("spec", "keys", 0, "secretRef", "key"), nil)
		Expect(k8sClient.Create(ctx, l, client.DryRunAll)).To(Succeed())
		keys, _, err := unstructured.NestedSlice(l.Object, "spec", "keys")
		Expect(err).NotTo(HaveOccurred())
		Expect(keys[0].(m)["secretRef"].(m)["key"]).To(Equal("key"))
		g := changed(grant(), at("spec", "subjects", 0, "kind"), nil)
		Expect(k8sClient.Create(ctx, g, client.DryRunAll)).To(Succeed())
		subjects, _, err := unstructured.NestedSlice(g.Object, "spec", "subjects")
		Expect(err).NotTo(HaveOccurred())
		Expect(subjects[0].(m)["kind"]).To(Equal("ServiceAccount"))
	})

	It("refuses fields that do not exist, instead of ignoring them, as kubectl asks for", func(ctx SpecContext) {
		for _, object := range []*unstructured.Unstructured{
			changed(license(), at("spec", "terms", "royalties"), m{"pods": "4"}), changed(license(), at("spec", "images", 0, "layers"), []string{}),
			changed(grant(), at("spec", "quota"), m{"pods": "4"}),
		} {
			err := k8sClient.Create(ctx, object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
			Expect(err).To(MatchError(ContainSubstring("unknown field")))
		}
	})

	repository := func(value string, says ...string) wrong {
		return wrong{at("spec", "images", 0, "repository"), value, append([]string{"spec.images[0].repository"}, says...)}
	}
	mirror := func(value string, says ...string) wrong {
		return wrong{at("spec", "images", 0, "mirrors"), []string{value}, append([]string{"spec.images[0].mirrors[0]"}, says...)}
	}
	digest := func(value string, says ...string) wrong {
		return wrong{at("spec", "images", 0, "digests"), []string{value}, append([]string{"spec.images[0].digests[0]"}, says...)}
	}
	licenseCases := map[string]wrong{
		"name with a dot": {at("metadata", "name"), "acme.chat", []string{"metadata.name must be a DNS label of at most 50 characters"}},
		"name too long":   {at("metadata", "name"), strings.Repeat("x", 51), []string{"metadata.name must be a DNS label of at most 50 characters"}},
		"spec":            {at("spec"), nil, []string{"spec: Required"}},

		"licensor missing":    {at("spec", "licensor"), nil, []string{"spec.licensor: Required"}},
		"licensor empty":      {at("spec", "licensor"), "", []string{"spec.licensor"}},
		"licensor upper case": {at("spec", "licensor"), "Acme Inc.", []string{"spec.licensor", "must be a DNS name in lower case, for example acme.example"}},
		"licensor type":       {at("spec", "licensor"), 7, []string{"spec.licensor", "must be of type string"}},
		"licensor too long":   {at("spec", "licensor"), strings.Repeat("x", 254), []string{"spec.licensor", "253"}},

		"model missing":      {at("spec", "model"), nil, []string{"spec.model: Required"}},
		"model name missing": {at("spec", "model", "name"), nil, []string{"spec.model.name: Required"}},
		"model name empty":   {at("spec", "model", "name"), "", []string{"spec.model.name"}},
		"model name":         {at("spec", "model", "name"), "chat\n7b", []string{"spec.model.name", "must begin and end with a letter or a digit", "for example chat-7b"}},
		"model name long":    {at("spec", "model", "name"), strings.Repeat("x", 129), []string{"spec.model.name", "128"}},
		"model version":      {at("spec", "model", "version"), "v 2", []string{"spec.model.version", "must begin and end with a letter or a digit", "for example 2.1"}},
		"model version type": {at("spec", "model", "version"), 2.1, []string{"spec.model.version", "must be of type string"}},
		"model version long": {at("spec", "model", "version"), strings.Repeat("x", 65), []string{"spec.model.version", "64"}},
		"model version none": {at("spec", "model", "version"), "", []string{"spec.model.version"}},

		"images missing":     {at("spec", "images"), nil, []string{"spec.images: Required"}},
		"images empty":       {at("spec", "images"), []m{}, []string{"spec.images", "at least 1 items"}},
		"images too many":    {at("spec", "images"), many(33, func(i int) m { return m{"repository": fmt.Sprintf("a.b/%d", i), "keyName": "v2"} }), []string{"spec.images", "32"}},
		"images twice":       {at("spec", "images"), many(2, func(int) m { return m{"repository": "a.b/c", "keyName": "v2"} }), []string{"spec.images[1]", "Duplicate value"}},
		"repository missing": {at("spec", "images", 0, "repository"), nil, []string{"spec.images[0].repository: Required"}},
		"repository tag":     repository("registry.example.com/models/chat:v1", "must not hold a tag: write the repository alone"),
		"repository digest":  repository("registry.example.com/m@sha256:"+strings.Repeat("0", 64), "must not hold a digest: write the repository alone"),
		"repository host":    repository("models/chat", "must be HOST/PATH in lower case with a registry host"),
		"repository alone":   repository("registry.example.com", "must be HOST/PATH in lower case with a registry host"),
		"repository case":    repository("registry.example.com/Models", "must be HOST/PATH in lower case"),
		"repository host *":  repository("*.example.com/models", "must be HOST/PATH in lower case with a registry host"),
		"repository within":  repository("registry.example.com/chat-*", "a path component may be * or **"),
		"repository many **": repository("registry.example.com/**/a/**/b/**", "must have at most two components **"),
		"repository scheme":  repository("https://registry.example.com/m", "must be HOST/PATH"),
		"repository hyphen":  repository("-registry.example.com/m", "must be HOST/PATH"),
		"repository slash":   repository("registry.example.com/m/", "must be HOST/PATH"),
		"repository long":    repository("registry.example.com/"+strings.Repeat("x", 255), "255"),
		"repository short":   repository("a", "3"),
		"mirrors type":       {at("spec", "images", 0, "mirrors"), "cache.example.com/chat", []string{"spec.images[0].mirrors", "must be of type array"}},
		"mirrors empty":      {at("spec", "images", 0, "mirrors"), []string{}, []string{"spec.images[0].mirrors", "at least 1 items"}},
		"mirrors too many":   {at("spec", "images", 0, "mirrors"), many(9, func(i int) string { return fmt.Sprintf("a.b/%d", i) }), []string{"spec.images[0].mirrors", "8"}},
		"mirrors twice":      {at("spec", "images", 0, "mirrors"), []string{"a.b/c", "a.b/c"}, []string{"spec.images[0].mirrors[1]", "Duplicate value"}},
		"mirror tag":         mirror("cache.example.com/chat:v1", "must not hold a tag: write the repository alone"),
		"mirror digest":      mirror("cache.example.com/m@sha256:"+strings.Repeat("0", 64), "must not hold a digest: write the repository alone"),
		"mirror host":        mirror("models/chat", "must be HOST/PATH in lower case with a registry host"),
		"mirror case":        mirror("cache.example.com/Models", "must be HOST/PATH in lower case"),
		"mirror host *":      mirror("*.example.com/models", "must be HOST/PATH in lower case with a registry host"),
		"mirror scheme":      mirror("https://cache.example.com/m", "must be HOST/PATH"),
		"mirror many **":     mirror("cache.example.com/**/a/**/b/**", "must have at most two components **"),
		"mirror long":        mirror("cache.example.com/"+strings.Repeat("x", 255), "255"),
		"mirror short":       mirror("a", "3"),
		"digests type":       {at("spec", "images", 0, "digests"), "sha256:" + strings.Repeat("0", 64), []string{"spec.images[0].digests", "must be of type array"}},
		"digests empty":      {at("spec", "images", 0, "digests"), []string{}, []string{"spec.images[0].digests", "at least 1 items"}},
		"digests too many":   {at("spec", "images", 0, "digests"), many(65, func(i int) string { return fmt.Sprintf("sha256:%064x", i) }), []string{"spec.images[0].digests", "64"}},
		"digests twice":      {at("spec", "images", 0, "digests"), many(2, func(int) string { return "sha256:" + strings.Repeat("0", 64) }), []string{"spec.images[0].digests[1]", "Duplicate value"}},
		"digest bare":        digest(strings.Repeat("0", 71), "must be sha256: and 64 hexadecimal digits in lower case"),
		"digest case":        digest("sha256:"+strings.Repeat("A", 64), "must be sha256: and 64 hexadecimal digits in lower case"),
		"digest algorithm":   digest("sha512:"+strings.Repeat("0", 64), "must be sha256: and 64 hexadecimal digits in lower case"),
		"digest other one":   digest("sha512:"+strings.Repeat("0", 128), "71"),
		"digest short":       digest("sha256:0123", "71"),
		"digest image":       digest("a.b/c@sha256:"+strings.Repeat("0", 64), "71"),
		"keyName unknown":    {at("spec", "images", 0, "keyName"), "v3", []string{"images[].keyName must be the name of one of spec.keys: add the key or correct the name"}},
		"keyName empty":      {at("spec", "images", 0, "keyName"), "", []string{"spec.images[0].keyName"}},
		"keyName long":       {at("spec", "images", 0, "keyName"), strings.Repeat("x", 64), []string{"spec.images[0].keyName", "63"}},
		"keyName, no keys":   {at("spec", "keys"), nil, []string{"images[].keyName names a key, but spec.keys is missing: add the key"}},
		"keyName, many keys": {at("spec"), func() any {
			l := builders.License("x").Repository("a.b/c").Key("v1").Key("v2").Obj()
			return l.Spec
		}(), []string{"images[].keyName is required where spec.keys has several keys"}},

		"terms missing":    {at("spec", "terms"), nil, []string{"spec.terms: Required"}},
		"actions missing":  {at("spec", "terms", "actions"), nil, []string{"spec.terms.actions: Required"}},
		"actions empty":    {at("spec", "terms", "actions"), []string{}, []string{"spec.terms.actions", "at least 1 items"}},
		"actions unknown":  {at("spec", "terms", "actions"), []string{"Training"}, []string{"spec.terms.actions[0]", "supported values", `"Inference"`, `"FineTuning"`}},
		"actions twice":    {at("spec", "terms", "actions"), []string{"Merge", "Merge"}, []string{"spec.terms.actions[1]", "Duplicate value"}},
		"purposes missing": {at("spec", "terms", "purposes"), nil, []string{"spec.terms.purposes: Required"}},
		"purposes empty":   {at("spec", "terms", "purposes"), []string{}, []string{"spec.terms.purposes", "at least 1 items"}},
		"purposes unknown": {at("spec", "terms", "purposes"), []string{"Private"}, []string{"spec.terms.purposes[0]", "supported values", `"Internal"`}},
		"purposes twice":   {at("spec", "terms", "purposes"), []string{"Research", "Research"}, []string{"spec.terms.purposes[1]", "Duplicate value"}},
		"notBefore":        {at("spec", "terms", "notBefore"), "2026-11-01", []string{"spec.terms.notBefore", "date-time"}},
		"notAfter":         {at("spec", "terms", "notAfter"), "tomorrow", []string{"spec.terms.notAfter", "date-time"}},
		"notAfter type":    {at("spec", "terms", "notAfter"), 2027, []string{"spec.terms.notAfter", "date-time"}},
		"notAfter earlier": {at("spec", "terms"), m{
			"actions": []string{"Inference"}, "purposes": []string{"Internal"}, "notBefore": "2027-01-01T00:00:00Z", "notAfter": "2026-01-01T00:00:00Z",
		}, []string{"spec.terms", "notAfter must be later than notBefore"}},
		"notAfter equal": {at("spec", "terms"), m{
			"actions": []string{"Inference"}, "purposes": []string{"Internal"}, "notBefore": "2027-01-01T00:00:00Z", "notAfter": "2027-01-01T01:00:00+01:00",
		}, []string{"spec.terms", "notAfter must be later than notBefore"}},

		"onCopy unknown":   {at("spec", "terms", "onCopy"), "Delete", []string{"spec.terms.onCopy", "supported values", `"Report"`, `"Evict"`}},
		"onCopy empty":     {at("spec", "terms", "onCopy"), "", []string{"spec.terms.onCopy", "supported values"}},
		"pinDigests type":  {at("spec", "pinDigests"), "yes", []string{"spec.pinDigests", "must be of type boolean"}},
		"pullSecret type":  {at("spec", "pullSecretRef"), "registry", []string{"spec.pullSecretRef", "must be of type object"}},
		"pullSecret none":  {at("spec", "pullSecretRef"), m{}, []string{"spec.pullSecretRef.name: Required"}},
		"pullSecret empty": {at("spec", "pullSecretRef"), m{"name": ""}, []string{"spec.pullSecretRef.name"}},
		"pullSecret name":  {at("spec", "pullSecretRef"), m{"name": "other-namespace/registry"}, []string{"spec.pullSecretRef.name", "must be the name of a Secret in the operator's namespace"}},
		"pullSecret long":  {at("spec", "pullSecretRef"), m{"name": strings.Repeat("x", 254)}, []string{"spec.pullSecretRef.name", "253"}},

		"allowedNamespaces missing": {at("spec", "allowedNamespaces"), nil, []string{"spec.allowedNamespaces: Required"}},
		"allowedNamespaces neither": {at("spec", "allowedNamespaces"), m{}, []string{"spec.allowedNamespaces", "set exactly one of names"}},
		"allowedNamespaces both":    {at("spec", "allowedNamespaces"), m{"names": []string{"a"}, "selector": m{}}, []string{"spec.allowedNamespaces", "set exactly one of names"}},
		"names empty":               {at("spec", "allowedNamespaces", "names"), []string{}, []string{"spec.allowedNamespaces.names", "at least 1 items"}},
		"names too many":            {at("spec", "allowedNamespaces", "names"), many(257, func(i int) string { return fmt.Sprintf("n%d", i) }), []string{"spec.allowedNamespaces.names", "256"}},
		"names twice":               {at("spec", "allowedNamespaces", "names"), []string{"a", "a"}, []string{"spec.allowedNamespaces.names[1]", "Duplicate value"}},
		"names wildcard":            {at("spec", "allowedNamespaces", "names"), []string{"ml-*"}, []string{"spec.allowedNamespaces.names[0]", "without wildcards", "use selector instead"}},
		"names item empty":          {at("spec", "allowedNamespaces", "names"), []string{""}, []string{"spec.allowedNamespaces.names[0]"}},
		"names item long":           {at("spec", "allowedNamespaces", "names"), []string{strings.Repeat("x", 64)}, []string{"spec.allowedNamespaces.names[0]", "63"}},

		"keys empty":          {at("spec", "keys"), []m{}, []string{"spec.keys", "at least 1 items"}},
		"keys too many":       {at("spec", "keys"), many(9, func(i int) m { return m{"name": fmt.Sprintf("v%d", i), "secretRef": m{"name": "s"}} }), []string{"spec.keys", "8"}},
		"keys twice":          {at("spec", "keys"), many(2, func(int) m { return m{"name": "v2", "secretRef": m{"name": "s"}} }), []string{"spec.keys[1]", "Duplicate value"}},
		"key name missing":    {at("spec", "keys", 0, "name"), nil, []string{"spec.keys[0].name: Required"}},
		"key name empty":      {at("spec", "keys", 0, "name"), "", []string{"spec.keys[0].name"}},
		"key name":            {at("spec", "keys", 0, "name"), "V2/../x", []string{"spec.keys[0].name", "must be a DNS label in lower case, for example v2"}},
		"key name long":       {at("spec", "keys", 0, "name"), strings.Repeat("x", 64), []string{"spec.keys[0].name", "63"}},
		"secretRef missing":   {at("spec", "keys", 0, "secretRef"), nil, []string{"spec.keys[0].secretRef: Required"}},
		"secret name missing": {at("spec", "keys", 0, "secretRef", "name"), nil, []string{"spec.keys[0].secretRef.name: Required"}},
		"secret name empty":   {at("spec", "keys", 0, "secretRef", "name"), "", []string{"spec.keys[0].secretRef.name"}},
		"secret name":         {at("spec", "keys", 0, "secretRef", "name"), "other-namespace/key", []string{"spec.keys[0].secretRef.name", "must be the name of a Secret in the operator's namespace"}},
		"secret name long":    {at("spec", "keys", 0, "secretRef", "name"), strings.Repeat("x", 254), []string{"spec.keys[0].secretRef.name", "253"}},
		"secret key empty":    {at("spec", "keys", 0, "secretRef", "key"), "", []string{"spec.keys[0].secretRef.key"}},
		"secret key":          {at("spec", "keys", 0, "secretRef", "key"), "a/b", []string{"spec.keys[0].secretRef.key", "must be an entry of the Secret's data"}},
		"secret key long":     {at("spec", "keys", 0, "secretRef", "key"), strings.Repeat("x", 254), []string{"spec.keys[0].secretRef.key", "253"}},
	}
	grantCases := map[string]wrong{
		"spec":                   {at("spec"), nil, []string{"spec: Required"}},
		"licenseName missing":    {at("spec", "licenseName"), nil, []string{"spec.licenseName: Required"}},
		"licenseName empty":      {at("spec", "licenseName"), "", []string{"spec.licenseName"}},
		"licenseName":            {at("spec", "licenseName"), "acme.chat", []string{"spec.licenseName", "must be the name of a ModelLicense: see kubectl get mlic"}},
		"licenseName long":       {at("spec", "licenseName"), strings.Repeat("x", 51), []string{"spec.licenseName", "50"}},
		"subjects missing":       {at("spec", "subjects"), nil, []string{"spec.subjects: Required"}},
		"subjects empty":         {at("spec", "subjects"), []m{}, []string{"spec.subjects", "at least 1 items"}},
		"subjects too many":      {at("spec", "subjects"), many(65, func(i int) m { return m{"name": fmt.Sprintf("a%d", i)} }), []string{"spec.subjects", "64"}},
		"subjects twice":         {at("spec", "subjects"), many(2, func(int) m { return m{"name": "llm"} }), []string{"spec.subjects[1]", "Duplicate value"}},
		"subject kind":           {at("spec", "subjects", 0, "kind"), "User", []string{"spec.subjects[0].kind", "supported values", `"ServiceAccount"`}},
		"subject name missing":   {at("spec", "subjects", 0, "name"), nil, []string{"spec.subjects[0].name: Required"}},
		"subject name empty":     {at("spec", "subjects", 0, "name"), "", []string{"spec.subjects[0].name"}},
		"subject name wildcard":  {at("spec", "subjects", 0, "name"), "*", []string{"spec.subjects[0].name", "wildcards are not supported"}},
		"subject name namespace": {at("spec", "subjects", 0, "name"), "other:llm", []string{"spec.subjects[0].name", "ServiceAccount in the grant's namespace"}},
		"subject name long":      {at("spec", "subjects", 0, "name"), strings.Repeat("x", 254), []string{"spec.subjects[0].name", "253"}},
		"action missing":         {at("spec", "action"), nil, []string{"spec.action: Required"}},
		"action unknown":         {at("spec", "action"), "Training", []string{"spec.action", "supported values", `"Inference"`}},
		"purpose missing":        {at("spec", "purpose"), nil, []string{"spec.purpose: Required"}},
		"purpose unknown":        {at("spec", "purpose"), "internal", []string{"spec.purpose", "supported values", `"Internal"`}},
	}
	for name, c := range selectorCases("selector", "spec", "allowedNamespaces", "selector") {
		// A licence that names namespaces cannot select them too, so the whole is replaced.
		licenseCases[name] = wrong{at("spec", "allowedNamespaces"), m{"selector": c.value}, c.says}
	}
	for name, c := range selectorCases("podSelector", "spec", "podSelector") {
		grantCases[name] = c
	}

	maps.Copy(licenseCases, licenseTermCases())
	maps.Copy(grantCases, grantTermCases())

	entries := func(cases map[string]wrong) []any {
		var names []string
		for name := range cases {
			names = append(names, name)
		}
		slices.Sort(names)
		var all []any
		for _, name := range names {
			all = append(all, Entry(name, cases[name]))
		}
		return all
	}
	DescribeTable("refuses a licence with a wrong", append([]any{func(ctx SpecContext, c wrong) {
		refuse(ctx, changed(license(), c.path, c.value), c.says)
	}}, entries(licenseCases)...)...)
	DescribeTable("refuses a grant with a wrong", append([]any{func(ctx SpecContext, c wrong) {
		refuse(ctx, changed(grant(), c.path, c.value), c.says)
	}}, entries(grantCases)...)...)

	// A status is the operator's. What it must not hold is refused all the same, since decisions on digests go by it.
	const digestOfImage = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	image := func(field string, value any) []m {
		entry := m{"repository": "a.b/c", "tag": "v1", "digest": digestOfImage, "platforms": []string{digestOfImage}}
		if entry[field] = value; value == nil {
			delete(entry, field)
		}
		return []m{entry}
	}
	distribution := func(field string, value any) m {
		d := m{"nodes": 1, "nodeNames": []string{"a"}}
		if d[field] = value; value == nil {
			delete(d, field)
		}
		return d
	}
	statusCases := map[string]wrong{
		"conditions too many":        {at("conditions"), many(17, func(i int) m { return condition(fmt.Sprintf("C%d", i)) }), []string{"status.conditions", "16"}},
		"conditions twice":           {at("conditions"), many(2, func(int) m { return condition("Ready") }), []string{"status.conditions[1]", "Duplicate value"}},
		"observedGeneration":         {at("observedGeneration"), -1, []string{"status.observedGeneration", "greater than or equal to 0"}},
		"grants":                     {at("grants"), -1, []string{"status.grants", "greater than or equal to 0"}},
		"images too many":            {at("images"), many(129, func(i int) m { return m{"repository": "a.b/c", "tag": fmt.Sprint(i), "digest": digestOfImage} }), []string{"status.images", "128"}},
		"images twice":               {at("images"), append(image("platforms", nil), image("platforms", nil)...), []string{"status.images[1]", "Duplicate value"}},
		"images repository missing":  {at("images"), image("repository", nil), []string{"status.images[0].repository: Required"}},
		"images repository empty":    {at("images"), image("repository", ""), []string{"status.images[0].repository"}},
		"images repository long":     {at("images"), image("repository", strings.Repeat("x", 256)), []string{"status.images[0].repository", "255"}},
		"images tag missing":         {at("images"), image("tag", nil), []string{"status.images[0].tag: Required"}},
		"images tag long":            {at("images"), image("tag", strings.Repeat("x", 129)), []string{"status.images[0].tag", "128"}},
		"images digest missing":      {at("images"), image("digest", nil), []string{"status.images[0].digest: Required"}},
		"images digest short":        {at("images"), image("digest", "sha256:0123"), []string{"status.images[0].digest", "71"}},
		"images digest long":         {at("images"), image("digest", digestOfImage+"0"), []string{"status.images[0].digest", "71"}},
		"images platforms too many":  {at("images"), image("platforms", many(17, func(i int) string { return fmt.Sprintf("sha256:%064x", i) })), []string{"status.images[0].platforms", "16"}},
		"images platforms twice":     {at("images"), image("platforms", []string{digestOfImage, digestOfImage}), []string{"status.images[0].platforms[1]", "Duplicate value"}},
		"images platforms long":      {at("images"), image("platforms", []string{digestOfImage + "0"}), []string{"status.images[0].platforms[0]", "71"}},
		"distribution nodes missing": {at("distribution"), distribution("nodes", nil), []string{"status.distribution.nodes: Required"}},
		"distribution nodes":         {at("distribution"), distribution("nodes", -1), []string{"status.distribution.nodes", "greater than or equal to 0"}},
		"distribution names many":    {at("distribution"), distribution("nodeNames", many(101, func(i int) string { return fmt.Sprintf("n%d", i) })), []string{"status.distribution.nodeNames", "100"}},
		"distribution names twice":   {at("distribution"), distribution("nodeNames", []string{"a", "a"}), []string{"status.distribution.nodeNames[1]", "Duplicate value"}},
		"distribution name long":     {at("distribution"), distribution("nodeNames", []string{strings.Repeat("x", 254)}), []string{"status.distribution.nodeNames[0]", "253"}},
	}
	maps.Copy(statusCases, seatStatusCases())
	writeStatus := func(ctx SpecContext, status m) error {
		GinkgoHelper()
		stored := builders.License("acme-status").Repository("registry.example.com/models/status").Obj()
		Expect(k8sClient.Create(ctx, stored)).To(Succeed())
		defer func() { Expect(k8sClient.Delete(ctx, stored)).To(Succeed()) }()
		object := changed(stored, nil, nil)
		object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ModelLicense"))
		object.Object["status"] = normal(status)
		return k8sClient.Status().Update(ctx, object, client.DryRunAll)
	}
	grantStatusCases := seatStatusCases()
	grantStatusCases["conditions too many"] = statusCases["conditions too many"]
	grantStatusCases["conditions twice"] = statusCases["conditions twice"]
	grantStatusCases["observedGeneration"] = statusCases["observedGeneration"]
	DescribeTable("refuses a grant's status with a wrong", append([]any{func(ctx SpecContext, c wrong) {
		stored := builders.Grant("default", "status", "acme-status").ServiceAccount("llm").Obj()
		Expect(k8sClient.Create(ctx, stored)).To(Succeed())
		defer func() { Expect(k8sClient.Delete(ctx, stored)).To(Succeed()) }()
		object := changed(stored, nil, nil)
		object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ModelGrant"))
		object.Object["status"] = normal(m{c.path[0].(string): c.value})
		err := k8sClient.Status().Update(ctx, object, client.DryRunAll)
		Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%v", err)
		for _, part := range c.says {
			Expect(err.Error()).To(ContainSubstring(part))
		}
	}}, entries(grantStatusCases)...)...)
	DescribeTable("refuses a status with a wrong", append([]any{func(ctx SpecContext, c wrong) {
		err := writeStatus(ctx, m{c.path[0].(string): c.value})
		Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%v", err)
		for _, part := range c.says {
			Expect(err.Error()).To(ContainSubstring(part))
		}
	}}, entries(statusCases)...)...)

	It("accepts a status as the operator writes it", func(ctx SpecContext) {
		Expect(writeStatus(ctx, m{
			"images": image("tag", ""), "distribution": distribution("nodes", 2), "conditions": []m{condition("Ready")}, "grants": 0, "observedGeneration": 1,
		})).To(Succeed())
	})

	It("has a case for every field", func() {
		for kind, expect := range map[string]struct {
			cases  map[string]wrong
			fields []string
		}{
			"licence":          {licenseCases, fieldsOf("modellicenses.modelrights.dev", "spec")},
			"licence's status": {statusCases, withoutConditions(fieldsOf("modellicenses.modelrights.dev", "status"))},
			"grant":            {grantCases, fieldsOf("modelgrants.modelrights.dev", "spec")},
			"grant's status":   {grantStatusCases, withoutConditions(fieldsOf("modelgrants.modelrights.dev", "status"))},
		} {
			var paths []string
			for _, c := range expect.cases {
				paths = append(paths, fmt.Sprint(c.path, c.says))
			}
			for _, field := range expect.fields {
				Expect(paths).To(ContainElement(ContainSubstring(field)), "no wrong value of field %s of a %s is tried", field, kind)
			}
		}
	})

	It("accepts exactly the repositories that can be matched", func(ctx SpecContext) {
		for _, repository := range []string{
			"registry.example.com/models/chat", "registry.example.com/**", "registry.example.com/*/chat", "registry.example.com/**/chat/**",
			"localhost/m", "localhost:5000/m", "registry:5000/m", "10.0.0.1/m", "10.0.0.1:5000/m", "[2001:db8::1]:5000/m", "[::1]/m",
			"registry.example.com:443/a__b/c_d/e---f.g", "docker.io/acme/chat", "docker.io/*", "a.b/c",
			"a-.b/c", "-a.b/c", "a.-b/c", "a..b/c", ".a.b/c", "a.b./c", "a.b:/c", "a.b:x/c", "registry/m", "a.b", "a.b/", "a.b//c",
			"a.b/-c", "a.b/c-", "a.b/c___d", "a.b/c._d", "a.b/***", "a.b/c*", "a.b/c:d", "a.b/c d", "a.b/C", "a.b/../c", "a.b/é", "é.b/c",
			"*/c", "**/c", "sha256:0123/c", "a.b/**/**/**", "[:::]/m",
		} {
			_, unmatched := images.ParsePattern(repository)
			err := k8sClient.Create(ctx, builders.License("x").Repository(repository).Obj(), client.DryRunAll)
			Expect(err == nil).To(Equal(unmatched == nil), "repository %q: the API server says %v, and parsing it %v", repository, err, unmatched)
		}
	})
})

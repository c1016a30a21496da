package integration

import (
	"fmt"
	"maps"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// fieldPath is a path of field names as messages write it.
func fieldPath(path []any) string {
	var names []string
	for _, name := range path {
		names = append(names, fmt.Sprint(name))
	}
	return strings.Join(names, ".")
}

// durationCases are the wrong values of a duration at a path, which may lie between two bounds.
func durationCases(name, shortest, longest string, path ...any) map[string]wrong {
	says := fmt.Sprintf("must be a duration of hours, minutes and seconds from %s to %s", shortest, longest)
	field := fieldPath(path)
	cases := map[string]wrong{
		name + ", a number":   {path, 3600, []string{field, "must be of type string"}},
		name + ", empty":      {path, "", []string{field, says}},
		name + ", no unit":    {path, "72", []string{field, says}},
		name + ", days":       {path, "3d", []string{field, says}},
		name + ", a fraction": {path, "1.5h", []string{field, says}},
		name + ", negative":   {path, "-1h", []string{field, says}},
		name + ", too long":   {path, longest + "1s", []string{field, says}},
	}
	if shortest != "0s" {
		cases[name+", too short"] = wrong{path, "59s", []string{field, says}}
	}
	return cases
}

// limitCases are the wrong values of limits at a path.
func limitCases(name string, path ...any) map[string]wrong {
	type m = map[string]any
	field := fieldPath(path)
	many := m{}
	for i := range 9 {
		many[fmt.Sprintf("example.com/device-%d", i)] = 1
	}
	keys, whole := "keys must be pods, nodes or a resource that pods request", "pods, nodes and devices are counted in whole numbers"
	return map[string]wrong{
		name + ", type":            {path, "4", []string{field, "must be of type object"}},
		name + ", too many":        {path, many, []string{field, "8"}},
		name + ", unknown key":     {path, m{"gpus": "8"}, []string{field, keys}},
		name + ", requests":        {path, m{"requests.cpu": "8"}, []string{field, keys}},
		name + ", a device's name": {path, m{"nvidia.com/g p u": "8"}, []string{field, keys}},
		name + ", no name":         {path, m{"nvidia.com/": "8"}, []string{field, keys}},
		name + ", negative":        {path, m{"pods": "-1"}, []string{field, "quantities must not be negative"}},
		name + ", negative number": {path, m{"pods": -1}, []string{field, "quantities must not be negative"}},
		name + ", no quantity":     {path, m{"pods": "four"}, []string{field + ".pods"}},
		name + ", half a pod":      {path, m{"pods": "500m"}, []string{field, whole}},
		name + ", half a node":     {path, m{"nodes": "1.5"}, []string{field, whole}},
		name + ", half a device":   {path, m{"nvidia.com/gpu": "0.5"}, []string{field, whole}},
	}
}

// licenseTermCases are the wrong values of what holds for a pod's whole life.
func licenseTermCases() map[string]wrong {
	type m = map[string]any
	terms := func(field string) []any { return at("spec", "terms", field) }
	labels := func(n int) m {
		all := m{}
		for i := range n {
			all[fmt.Sprintf("label-%d", i)] = "a"
		}
		return all
	}
	cases := map[string]wrong{
		"graceAdmits unknown": {terms("graceAdmits"), "Some", []string{"spec.terms.graceAdmits", "supported values", `"None"`, `"All"`}},
		"overage unknown":     {terms("overage"), "Wait", []string{"spec.terms.overage", "supported values", `"Queue"`, `"Deny"`}},
		"onRevoke unknown":    {terms("onRevoke"), "Delete", []string{"spec.terms.onRevoke", "supported values", `"Evict"`, `"WipeKey"`}},
		"exec unknown":        {terms("exec"), "Log", []string{"spec.terms.exec", "supported values", `"Allow"`, `"Audit"`, `"Deny"`}},
		"suspended type":      {at("spec", "suspended"), "yes", []string{"spec.suspended", "must be of type boolean"}},
		"enforcement unknown": {at("spec", "enforcement"), "Off", []string{"spec.enforcement", "supported values", `"Enforce"`, `"Warn"`, `"Audit"`}},
		"enforcement empty":   {at("spec", "enforcement"), "", []string{"spec.enforcement", "supported values"}},

		"surge type":         {terms("surge"), 1, []string{"spec.terms.surge", "must be of type object"}},
		"surge without pods": {terms("surge"), m{"period": "10m"}, []string{"spec.terms.surge.pods: Required"}},
		"surge pods":         {terms("surge"), m{"pods": -1}, []string{"spec.terms.surge.pods", "greater than or equal to 0"}},
		"surge pods many":    {terms("surge"), m{"pods": 1001}, []string{"spec.terms.surge.pods", "less than or equal to 1000"}},

		"nodeSelector type":     {terms("nodeSelector"), "eu", []string{"spec.terms.nodeSelector", "must be of type object"}},
		"nodeSelector too many": {terms("nodeSelector"), labels(17), []string{"spec.terms.nodeSelector", "16"}},
		"nodeSelector key":      {terms("nodeSelector"), m{"-region": "eu"}, []string{"spec.terms.nodeSelector", "keys must be as labels' keys are"}},
		"nodeSelector value":    {terms("nodeSelector"), m{"region": "eu west"}, []string{"spec.terms.nodeSelector", "values must be as labels' values are"}},
		"nodeSelector long":     {terms("nodeSelector"), m{"region": strings.Repeat("x", 64)}, []string{"spec.terms.nodeSelector.region", "63"}},
		"nodeSelector number":   {terms("nodeSelector"), m{"region": 1}, []string{"spec.terms.nodeSelector.region", "must be of type string"}},
	}
	maps.Copy(cases, limitCases("limits", "spec", "terms", "limits"))
	maps.Copy(cases, durationCases("gracePeriod", "0s", "8760h", "spec", "terms", "gracePeriod"))
	maps.Copy(cases, durationCases("leaseDuration", "1m", "24h", "spec", "terms", "leaseDuration"))
	for name, c := range durationCases("surge period", "1m", "24h", "spec", "terms", "surge", "period") {
		cases[name] = wrong{terms("surge"), m{"pods": 1, "period": c.value}, c.says}
	}
	return cases
}

// grantTermCases are the wrong values of what a grant narrows.
func grantTermCases() map[string]wrong {
	cases := map[string]wrong{
		"notBefore":      {at("spec", "notBefore"), "tomorrow", []string{"spec.notBefore"}},
		"notAfter":       {at("spec", "notAfter"), "2027-13-01T00:00:00Z", []string{"spec.notAfter"}},
		"notAfter first": {at("spec"), grantSpec(map[string]any{"notBefore": "2027-02-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"}), []string{"spec", "notAfter must be later than notBefore"}},
	}
	maps.Copy(cases, limitCases("limits", "spec", "limits"))
	maps.Copy(cases, durationCases("gracePeriod", "0s", "8760h", "spec", "gracePeriod"))
	return cases
}

// grantSpec is the spec of a valid grant with further fields.
func grantSpec(more map[string]any) map[string]any {
	spec := map[string]any{
		"licenseName": "acme-chat", "subjects": []map[string]any{{"name": "llm"}}, "action": "Inference", "purpose": "Internal",
	}
	maps.Copy(spec, more)
	return spec
}

// quantities are n resources of their own.
func quantities(n int) map[string]any {
	all := map[string]any{}
	for i := range n {
		all[fmt.Sprintf("example.com/device-%d", i)] = 1
	}
	return all
}

// with is an object with one field set, or removed by nil.
func with(object map[string]any, field string, value any) map[string]any {
	object = maps.Clone(object)
	if object[field] = value; value == nil {
		delete(object, field)
	}
	return object
}

// usageCases are the wrong values of usage, which of puts to its place.
func usageCases(name string, of func(any) wrong) map[string]wrong {
	usage := map[string]any{"podSeconds": 7, "resourceSeconds": map[string]any{"cpu": 7}}
	cases := map[string]wrong{}
	for what, c := range map[string]struct {
		value any
		says  []string
	}{
		"seconds missing":  {with(usage, "podSeconds", nil), []string{"podSeconds: Required"}},
		"seconds":          {with(usage, "podSeconds", -1), []string{"podSeconds", "greater than or equal to 0"}},
		"resources many":   {with(usage, "resourceSeconds", quantities(33)), []string{"resourceSeconds", "32"}},
		"resource, a text": {with(usage, "resourceSeconds", map[string]any{"cpu": "7"}), []string{"resourceSeconds.cpu", "must be of type integer"}},
	} {
		w := of(c.value)
		w.says = append(w.says, c.says...)
		cases[name+" "+what] = w
	}
	return cases
}

// seatStatusCases are the wrong values of what the status of a licence, or of a grant, says of seats.
func seatStatusCases() map[string]wrong {
	type m = map[string]any
	seats := func(field string, value any) m {
		return with(m{"summary": "1/4", "waiting": 0, "inUse": m{"pods": 1}}, field, value)
	}
	holder := func(field string, value any) m {
		h := m{"uid": "a", "namespace": "ml-prod", "pod": "p", "node": "n", "since": "2026-12-01T12:00:00Z", "until": "2026-12-01T13:00:00Z"}
		return seats("holders", []m{with(h, field, value)})
	}
	cases := map[string]wrong{
		"expires":                   {at("expires"), "soon", []string{"status.expires"}},
		"seats, summary missing":    {at("seats"), seats("summary", nil), []string{"status.seats.summary: Required"}},
		"seats, summary long":       {at("seats"), seats("summary", strings.Repeat("x", 65)), []string{"status.seats.summary", "64"}},
		"seats, waiting missing":    {at("seats"), seats("waiting", nil), []string{"status.seats.waiting: Required"}},
		"seats, waiting":            {at("seats"), seats("waiting", -1), []string{"status.seats.waiting", "greater than or equal to 0"}},
		"seats, beyondLimits":       {at("seats"), seats("beyondLimits", -1), []string{"status.seats.beyondLimits", "greater than or equal to 0"}},
		"seats, inUse many":         {at("seats"), seats("inUse", quantities(33)), []string{"status.seats.inUse", "32"}},
		"seats, inUse":              {at("seats"), seats("inUse", m{"pods": "few"}), []string{"status.seats.inUse.pods"}},
		"seats, limits many":        {at("seats"), seats("limits", quantities(33)), []string{"status.seats.limits", "32"}},
		"seats, waitingFor many":    {at("seats"), seats("waitingFor", quantities(33)), []string{"status.seats.waitingFor", "32"}},
		"holders many":              {at("seats"), seats("holders", many(101, func(i int) m { return m{"uid": fmt.Sprint(i), "namespace": "a", "since": "2026-12-01T12:00:00Z"} })), []string{"status.seats.holders", "100"}},
		"holders twice":             {at("seats"), seats("holders", many(2, func(int) m { return m{"uid": "a", "namespace": "a", "since": "2026-12-01T12:00:00Z"} })), []string{"status.seats.holders[1]", "Duplicate value"}},
		"holder, uid missing":       {at("seats"), holder("uid", nil), []string{"status.seats.holders[0].uid: Required"}},
		"holder, uid empty":         {at("seats"), holder("uid", ""), []string{"status.seats.holders[0].uid"}},
		"holder, uid long":          {at("seats"), holder("uid", strings.Repeat("x", 65)), []string{"status.seats.holders[0].uid", "64"}},
		"holder, namespace missing": {at("seats"), holder("namespace", nil), []string{"status.seats.holders[0].namespace: Required"}},
		"holder, namespace long":    {at("seats"), holder("namespace", strings.Repeat("x", 64)), []string{"status.seats.holders[0].namespace", "63"}},
		"holder, pod long":          {at("seats"), holder("pod", strings.Repeat("x", 254)), []string{"status.seats.holders[0].pod", "253"}},
		"holder, node long":         {at("seats"), holder("node", strings.Repeat("x", 254)), []string{"status.seats.holders[0].node", "253"}},
		"holder, since missing":     {at("seats"), holder("since", nil), []string{"status.seats.holders[0].since: Required"}},
		"holder, until":             {at("seats"), holder("until", "later"), []string{"status.seats.holders[0].until"}},
	}
	maps.Copy(cases, usageCases("usage", func(value any) wrong { return wrong{at("usage"), value, []string{"status.usage"}} }))
	return cases
}

var _ = Describe("API validation of terms", func() {
	type m = map[string]any

	It("accepts every term, and takes its defaults", func(ctx SpecContext) {
		license := builders.License("acme-terms").Repository("registry.example.com/models/terms").Obj()
		full := changed(license, at("spec", "terms"), m{
			"actions": []string{"Inference"}, "purposes": []string{"Internal"}, "gracePeriod": "72h30m", "graceAdmits": "All",
			"limits":  m{"pods": 4, "nodes": "2", "cpu": "1500m", "memory": "1Gi", "ephemeral-storage": "1G", "hugepages-2Mi": "64Mi", "nvidia.com/gpu": "1k", "nvidia.com/mig-1g.5gb": 0},
			"overage": "Deny", "surge": m{"pods": 0}, "nodeSelector": m{"topology.kubernetes.io/region": "eu-west-1", "a": ""},
			"onRevoke": "WipeKey", "exec": "Deny", "leaseDuration": "24h",
		})
		Expect(k8sClient.Create(ctx, full, client.DryRunAll)).To(Succeed())
		period, _, err := unstructured.NestedString(full.Object, "spec", "terms", "surge", "period")
		Expect(err).NotTo(HaveOccurred())
		Expect(period).To(Equal("10m"))

		Expect(k8sClient.Create(ctx, license, client.DryRunAll)).To(Succeed())
		Expect(license.Spec.Enforcement).To(Equal(v1alpha1.EnforcementEnforce))
		terms := license.Spec.Terms
		Expect(terms.GraceAdmits).To(Equal(v1alpha1.GraceAdmitsNone))
		Expect(terms.Overage).To(Equal(v1alpha1.OverageQueue))
		Expect(terms.OnRevoke).To(Equal(v1alpha1.RevokeEvict))
		Expect(terms.Exec).To(Equal(v1alpha1.ExecAudit))
		Expect(terms.LeaseDuration.Duration.String()).To(Equal("1h0m0s"))
		Expect(terms.Limits).To(BeNil())

		grant := changed(builders.Grant("default", "chat", "acme-terms").ServiceAccount("llm").Obj(), at("spec"), grantSpec(m{
			"limits": m{"pods": 2}, "notBefore": "2026-11-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z", "gracePeriod": "0s",
		}))
		Expect(k8sClient.Create(ctx, grant, client.DryRunAll)).To(Succeed())
	})

	Context("of ledgers", func() {
		ledger := func() m {
			return m{
				"licenseUID": "a", "licenseGeneration": 1, "limits": m{"pods": 4}, "nodes": []string{"n"}, "holders": []string{"x"},
				"grants":  []m{{"namespace": "ml-prod", "name": "chat", "uid": "b", "limits": m{"pods": 2}, "usage": m{"podSeconds": 1}}},
				"amounts": []m{{"resources": m{"cpu": "1"}}}, "usage": m{"podSeconds": 1, "resourceSeconds": m{"cpu": 1}},
			}
		}
		create := func(ctx SpecContext, spec any) error {
			object := &unstructured.Unstructured{Object: m{"metadata": m{"name": "acme-terms"}}}
			object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ModelSeats"))
			if spec != nil {
				object.Object["spec"] = normal(spec)
			}
			return k8sClient.Create(ctx, object, client.DryRunAll)
		}
		// spec is a ledger with a wrong field, which the message names.
		spec := func(field string, value any, says ...string) wrong {
			return wrong{at("spec"), with(ledger(), field, value), append([]string{"spec." + field}, says...)}
		}
		grant := func(field string, value any, says ...string) wrong {
			return spec("grants", []m{with(ledger()["grants"].([]m)[0], field, value)}, append([]string{"spec.grants[0]." + field}, says...)...)
		}
		terms := func(field string, value any, says ...string) wrong {
			all := m{"onRevoke": "Evict", "enforcement": "Enforce", "leaseDuration": "1h"}
			return spec("terms", with(all, field, value), append([]string{"spec.terms." + field}, says...)...)
		}
		cases := map[string]wrong{
			"spec":                       {at("spec"), nil, []string{"spec: Required"}},
			"terms' onRevoke missing":    terms("onRevoke", nil, "Required"),
			"terms' onRevoke":            terms("onRevoke", "Delete", "Unsupported value"),
			"terms' enforcement missing": terms("enforcement", nil, "Required"),
			"terms' enforcement":         terms("enforcement", "Off", "Unsupported value"),
			"terms' lease missing":       terms("leaseDuration", nil, "Required"),
			"terms' short lease":         terms("leaseDuration", "59s", "from 1m to 24h"),
			"terms' long lease":          terms("leaseDuration", "25h", "from 1m to 24h"),
			"terms' lease of words":      terms("leaseDuration", "an hour", "leaseDuration"),
			"UID missing":                spec("licenseUID", nil, "Required"),
			"UID long":                   spec("licenseUID", strings.Repeat("x", 65), "64"),
			"generation none":            spec("licenseGeneration", nil, "Required"),
			"generation":                 spec("licenseGeneration", -1, "greater than or equal to 0"),
			"limits many":                spec("limits", quantities(17), "16"),
			"nodes many":                 spec("nodes", many(5001, func(i int) string { return fmt.Sprint(i) }), "5000"),
			"node long":                  spec("nodes", []string{strings.Repeat("x", 254)}, "spec.nodes[0]", "253"),
			"holders many":               spec("holders", many(v1alpha1.MaxSeatHolders+1, func(i int) string { return fmt.Sprint(i) }), "20000"),
			"holder long":                spec("holders", []string{strings.Repeat("x", 65)}, "spec.holders[0]", "64"),
			"amounts many":               spec("amounts", many(4097, func(int) m { return m{"resources": m{}} }), "4096"),
			"amount of nothing":          spec("amounts", []m{{}}, "spec.amounts[0].resources: Required"),
			"amount of many":             spec("amounts", []m{{"resources": quantities(17)}}, "spec.amounts[0].resources", "16"),
			"grants many":                spec("grants", many(4097, func(int) m { return m{"namespace": "a", "name": "b", "uid": "c"} }), "4096"),
			"grant's namespace":          grant("namespace", nil, "Required"),
			"grant's long one":           grant("namespace", strings.Repeat("x", 64), "63"),
			"grant's name":               grant("name", nil, "Required"),
			"grant's long name":          grant("name", strings.Repeat("x", 254), "253"),
			"grant's UID":                grant("uid", nil, "Required"),
			"grant's long UID":           grant("uid", strings.Repeat("x", 65), "64"),
			"grant's limits":             grant("limits", quantities(17), "16"),
		}
		maps.Copy(cases, usageCases("usage", func(value any) wrong { return spec("usage", value) }))
		maps.Copy(cases, usageCases("grant's usage", func(value any) wrong { return grant("usage", value) }))

		It("accepts one as the operator writes it", func(ctx SpecContext) {
			Expect(create(ctx, ledger())).To(Succeed())
		})

		It("refuses every wrong value", func(ctx SpecContext) {
			for name, c := range cases {
				err := create(ctx, c.value)
				Expect(apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)).To(BeTrue(), "%s: %v", name, err)
				for _, part := range c.says {
					Expect(err.Error()).To(ContainSubstring(part), name)
				}
			}
		})

		It("has a case for every field", func() {
			var said []string
			for _, c := range cases {
				said = append(said, fmt.Sprint(c.says))
			}
			for _, field := range fieldsOf("modelseats.modelrights.dev", "spec") {
				Expect(said).To(ContainElement(ContainSubstring(field)), "no wrong value of field %s of a ledger is tried", field)
			}
		})
	})
})

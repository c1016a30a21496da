package seats

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"modelrights.dev/modelrights/api/v1alpha1"
)

func TestDecodeRefusesWhatWasChangedByHand(t *testing.T) {
	line := func(text string) func(*v1alpha1.ModelSeatsSpec) {
		return func(s *v1alpha1.ModelSeatsSpec) { s.Holders[0] = text }
	}
	good := "DA_-4AAAQACAAAAAAAAAAQ,0,0,0,sxgh00,0"
	tests := map[string]struct {
		change func(*v1alpha1.ModelSeatsSpec)
		words  string
	}{
		"a line of nothing":        {line(""), `spec.holders[0] "": malformed`},
		"too few fields":           {line("DA_-4AAAQACAAAAAAAAAAQ,0,0"), "3 fields are too few"},
		"too many fields":          {line(good + ",,,,1"), "more than 9 fields"},
		"no UID":                   {line("hello,0,0,0,0"), `"hello" is no UID`},
		"a UID with spare bits":    {line("DA_-4AAAQACAAAAAAAAAAR,0,0,0,0"), "is no UID"},
		"a UUID as text":           {line("~" + string(uid(1)) + ",0,0,0,0"), "is no UID"},
		"a grant beyond the table": {line("DA_-4AAAQACAAAAAAAAAAQ,7,0,0,0"), "beyond its table"},
		"an amount beyond it":      {line("DA_-4AAAQACAAAAAAAAAAQ,0,7,0,0"), "beyond its table"},
		"a node beyond it":         {line("DA_-4AAAQACAAAAAAAAAAQ,0,0,0,0,7"), "beyond its table"},
		"a negative number":        {line("DA_-4AAAQACAAAAAAAAAAQ,-1,0,0,0"), `"-1" is no number`},
		"flags that are none":      {line("DA_-4AAAQACAAAAAAAAAAQ,0,0,10,0"), `"10" is no number`},
		"a time that is none":      {line("DA_-4AAAQACAAAAAAAAAAQ,0,0,0,zzzzzzzzzzzzz"), "is no number"},
		"a long line":              {line(good + strings.Repeat("0", 64)), "bytes are more than 64"},
		"a pod twice":              {func(s *v1alpha1.ModelSeatsSpec) { s.Holders = append(s.Holders, s.Holders[0]) }, "is there twice"},
		"a grant twice":            {func(s *v1alpha1.ModelSeatsSpec) { s.Grants = append(s.Grants, s.Grants[0]) }, "spec.grants[1] is there twice"},
		"a node twice":             {func(s *v1alpha1.ModelSeatsSpec) { s.Nodes = append(s.Nodes, s.Nodes[0]) }, "spec.nodes[1] is there twice"},
		"no grants":                {func(s *v1alpha1.ModelSeatsSpec) { s.Grants = nil }, "beyond its table"},
		"a negative limit":         {func(s *v1alpha1.ModelSeatsSpec) { s.Limits = list("pods", "-1") }, "spec.limits: pods is negative"},
		"a negative amount":        {func(s *v1alpha1.ModelSeatsSpec) { s.Amounts[0].Resources = list("cpu", "-1") }, "spec.amounts[0]: cpu is negative"},
		"a negative generation":    {func(s *v1alpha1.ModelSeatsSpec) { s.LicenseGeneration = -1 }, "is negative"},
		"negative usage":           {func(s *v1alpha1.ModelSeatsSpec) { s.Usage = &v1alpha1.UsageStatus{PodSeconds: -1} }, "spec.usage: podSeconds -1 are negative"},
		"a fraction too large": {func(s *v1alpha1.ModelSeatsSpec) {
			s.Grants[0].Usage = &v1alpha1.UsageStatus{ResourceSeconds: map[corev1.ResourceName]int64{"cpu": 1, "cpu.rest": 1000}}
		}, "spec.grants[0].usage: resourceSeconds of cpu.rest are no fraction"},
		"a fraction of nothing": {func(s *v1alpha1.ModelSeatsSpec) {
			s.Usage = &v1alpha1.UsageStatus{ResourceSeconds: map[corev1.ResourceName]int64{"cpu.rest": 1}}
		}, "are no fraction"},
		"too many items": {func(s *v1alpha1.ModelSeatsSpec) { s.Nodes = make([]string, maxNodes+1) }, "more items than the kind allows"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := Empty(license(1))
			must(t, l, take(1, "cpu", "1"), Bind{uid(1), "n1"})
			object := &v1alpha1.ModelSeats{}
			l.Encode(object)
			test.change(&object.Spec)
			_, err := Decode(object)
			if err == nil || !strings.Contains(err.Error(), test.words) || !strings.Contains(err.Error(), "seat ledger acme") {
				t.Errorf("error %v, want %q in it", err, test.words)
			}
		})
	}
}

func TestLinesFit(t *testing.T) {
	h := holder{
		pod: uid(1), kind: uint8(Adopted), confinement: grantNodes, released: true, wiped: true,
		since: time.Date(2450, 1, 1, 0, 0, 0, 0, time.UTC).Unix(),
	}
	h.until, h.surgeUntil, h.meteredFrom = h.since+60466175, h.since+1000*3600, h.since+2176782335 // 23 months, 41 days, 69 years
	line := string(appendLine(nil, &h, maxGrants-1, maxAmounts-1, maxNodes-1))
	if len(line) > maxLine {
		t.Errorf("%d bytes: %s", len(line), line)
	}
	t.Logf("%d bytes: %s", len(line), line)
	got, err := parseLine(line)
	h.grant, h.amount, h.node = maxGrants-1, maxAmounts-1, maxNodes-1
	if err != nil || got != h {
		t.Errorf("%v: got %+v, want %+v", err, got, h)
	}
}

func TestUIDs(t *testing.T) {
	for _, pod := range []types.UID{uid(0), "ffffffff-ffff-ffff-ffff-ffffffffffff", "pod-1", "a", "exactly-21-bytes-long"} {
		line := string(appendLine(nil, &holder{pod: pod}, 0, 0, -1))
		h, err := parseLine(line)
		if !storable(pod) || err != nil || h.pod != pod || len(line) > 22+8 {
			t.Errorf("%s: %q, %+v, %v", pod, line, h, err)
		}
	}
	for _, pod := range []types.UID{
		"", "longer-than-21-bytes-is", "with,comma", "with space", "Größe",
		"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", // the API server writes them in lower case
	} {
		c := take(1)
		c.Pod = pod
		reason(t, Empty(license(1)), v1alpha1.ReasonLedgerFull, c)
	}
}

func TestTablesAreCompacted(t *testing.T) {
	l := Empty(license(1, "pods", "100"))
	for i := range 50 {
		c := take(i, "memory", fmt.Sprint(i+1))
		c.Grant = grantNamed(fmt.Sprint("g", i))
		must(t, l, c, Bind{uid(i), fmt.Sprint("n", i)})
	}
	for i := range 49 {
		must(t, l, End{Pod: uid(i), At: at(i % 2)}) // every other one used nothing
	}
	object := &v1alpha1.ModelSeats{}
	l.Encode(object)
	if s := object.Spec; len(s.Amounts) != 1 || len(s.Nodes) != 1 || len(s.Grants) != 25 || len(s.Holders) != 1 {
		t.Errorf("%d amounts, %d nodes, %d grants, %d holders", len(s.Amounts), len(s.Nodes), len(s.Grants), len(s.Holders))
	}
	if again := stored(t, l); fmt.Sprint(again.Holders()) != fmt.Sprint(l.Holders()) || len(again.Grants()) != 25 {
		t.Errorf("%+v, then %+v", l.Holders(), again.Holders())
	}
	for i := range 200 { // places in the tables are used again
		c := take(1000+i, "cpu", fmt.Sprint(i+1))
		must(t, l, c, Bind{c.Pod, fmt.Sprint("m", i)}, End{Pod: c.Pod, At: at(0)})
	}
	if len(l.amounts) > 60 || len(l.nodes) > 60 {
		t.Errorf("%d amounts, %d nodes in the tables", len(l.amounts), len(l.nodes))
	}
}

func TestLedgerFull(t *testing.T) {
	l := Empty(license(1))
	for i := range v1alpha1.MaxSeatHolders {
		must(t, l, take(i))
	}
	reason(t, l, v1alpha1.ReasonLedgerFull, take(v1alpha1.MaxSeatHolders))
	reason(t, l, v1alpha1.ReasonLedgerFull, Adopt{Pod: uid(v1alpha1.MaxSeatHolders), Grant: chat})
	must(t, l, End{Pod: uid(0), At: at(0)}, take(v1alpha1.MaxSeatHolders))
	if _, err := Decode(encoded(l)); err != nil {
		t.Error(err)
	}
}

func TestLedgerFullByBytes(t *testing.T) {
	l := Empty(license(1))
	n := 0
	for ; n < v1alpha1.MaxSeatHolders; n++ {
		c := take(n, "cpu", fmt.Sprintf("%dm", 1+n%4096))
		c.Grant = Grant{Namespace: strings.Repeat("n", 60), Name: fmt.Sprintf("%0200d", n%4096), UID: uid(n % 4096)}
		c.GrantLimits = list("pods", "100", "nvidia.com/gpu", "8")
		if r := l.Apply(c)[0]; r.Reason == v1alpha1.ReasonLedgerFull {
			break
		} else if !r.OK() {
			t.Fatal(r)
		}
	}
	data, err := json.Marshal(encoded(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d holders, %d bytes", n, len(data))
	if len(data) > 1536*1024 || n < 2000 {
		t.Errorf("%d holders take %d bytes; etcd takes 1.5 MiB", n, len(data))
	}
}

func TestGrantsThatUsedLeastMakeRoom(t *testing.T) {
	l := Empty(license(1))
	for i := range maxGrants {
		c := take(i)
		c.Grant = grantNamed(fmt.Sprint("g", i))
		must(t, l, c, End{Pod: uid(i), At: at(10 + i)})
	}
	used := l.Usage(at(0))
	must(t, l, take(9))
	if len(l.Grants()) != maxGrants || slices.Contains(l.Grants(), grantNamed("g0")) || l.Usage(at(0)).PodSeconds != used.PodSeconds {
		t.Errorf("%d grants, usage %d", len(l.Grants()), l.Usage(at(0)).PodSeconds)
	}
}

func TestUsageNeverOverflows(t *testing.T) {
	l := Empty(license(1))
	for i := range 3 {
		c := take(i, "nvidia.com/gpu", "1e18", "memory", "8Ei", "cpu", "9e15")
		must(t, l, c, End{Pod: uid(i), At: start.AddDate(200, 0, 0)})
		l = stored(t, l)
	}
	u := l.Usage(at(0))
	for name, n := range u.ResourceSeconds {
		if n <= 0 {
			t.Errorf("%s: %d", name, n)
		}
	}
	var full usage
	full.addPods(math.MaxInt64)
	full.addPods(math.MaxInt64)
	full.addResources(amount{{gpu, math.MaxInt64}}, math.MaxInt64)
	full.addResources(amount{{gpu, math.MaxInt64}}, math.MaxInt64)
	if got := full.status(); got.PodSeconds != math.MaxInt64 || got.ResourceSeconds[gpu] != math.MaxInt64 {
		t.Errorf("%+v", got)
	}
}

func encoded(l *Ledger) *v1alpha1.ModelSeats {
	object := &v1alpha1.ModelSeats{}
	l.Encode(object)
	return object
}

func FuzzDecode(f *testing.F) {
	l := Empty(license(1, "pods", "9", "nodes", "2"))
	must(f, l, take(1, "cpu", "1"), Bind{uid(1), "n1"}, Release{Pod: uid(1), Node: "n1"}, take(2), Bind{uid(2), "n2"}, take(3),
		Expire{uid(1), at(9)}, Resize{Pod: uid(1), Amount: list("cpu", "2"), At: at(5)}, take(4), End{Pod: uid(4), At: at(3)})
	data, _ := json.Marshal(encoded(l).Spec)
	f.Add(string(data))
	f.Add(`{"licenseUID":"u","grants":[{"namespace":"a","name":"b","uid":"c"}],"amounts":[{"resources":{"cpu":"1e99"}}],"holders":["~a,0,0,z,0"]}`)
	f.Fuzz(func(t *testing.T, data string) {
		object := &v1alpha1.ModelSeats{}
		if json.Unmarshal([]byte(data), &object.Spec) != nil {
			return
		}
		l, err := Decode(object)
		if err != nil {
			return
		}
		l.Apply(Limit{License: license(1, "pods", "3"), Confirmed: true}, take(7, "cpu", "1"), Bind{uid(7), "n"},
			Release{Pod: uid(7), Node: "n"}, End{Pod: uid(7), At: at(9)})
		again, err := Decode(encoded(l))
		if err != nil {
			t.Fatalf("what was decoded is encoded as what cannot be: %v", err)
		}
		if a, b := encoded(l), encoded(again); !equality.Semantic.DeepEqual(a, b) {
			t.Errorf("encoded as %+v, and then as %+v", a, b)
		}
		l.Holders()
		l.BeyondLimits()
		l.UsageByGrant(at(0))
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add("DA_-4AAAQACAAAAAAAAAAQ,0,0,0,sxgh00,0,1,2,3")
	f.Add("~pod-1,1,2,z,0")
	f.Fuzz(func(t *testing.T, line string) {
		h, err := parseLine(line)
		if err != nil {
			return
		}
		again, err := parseLine(string(appendLine(nil, &h, h.grant, h.amount, h.node)))
		if err != nil || again != h {
			t.Errorf("%q is %+v, written again %+v, %v", line, h, again, err)
		}
	})
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string][2]int64{
		"1": {1, 1}, "0": {0, 0}, "-3": {0, 0}, "1500m": {2, 1}, "1e30": {math.MaxInt64, math.MaxInt64}, "8Ei": {math.MaxInt64, math.MaxInt64},
	} {
		q := resource.MustParse(text)
		if up, down := ceil(gpu, q), floor(gpu, q); up != want[0] || down != want[1] {
			t.Errorf("%s: %d and %d, want %v", text, up, down, want)
		}
	}
	if q := resource.MustParse("0.0001"); ceil("cpu", q) != 1 || floor("cpu", q) != 0 {
		t.Errorf("a ten-thousandth of a core: %d and %d", ceil("cpu", q), floor("cpu", q))
	}
}

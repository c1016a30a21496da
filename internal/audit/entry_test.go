package audit

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/gowebpki/jcs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)

func release() Entry {
	return Entry{
		Type: KeyReleased, Namespace: "ml-prod", Pod: Object{Name: "llm-7d9f-x", UID: "5f2e", Generation: 1},
		Owner: Owner{Kind: "ReplicaSet", Name: "llm-7d9f"}, ServiceAccount: "llm-server", Node: "node-1",
		License: Object{Name: "acme-chat-7b", UID: "77aa", Generation: 3}, Grant: Object{Name: "chat", UID: "88bb", Generation: 2},
		Keys: []string{"v2"}, Images: []string{"registry.example.com/models/chat-7b:2.1"},
		Reason: v1alpha1.ReasonEntitled, Message: `licence "acme-chat-7b" and grant chat <cover> it`, Actor: "system:serviceaccount:a:b",
	}
}

func TestCanonicalIsStable(t *testing.T) {
	e := release()
	e.ID = "KeyReleased/1"
	leaf, err := e.complete(noon, "operator-0").Canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"actor":"system:serviceaccount:a:b","grant":{"generation":2,"name":"chat","uid":"88bb"},"id":"KeyReleased/1",` +
		`"images":["registry.example.com/models/chat-7b:2.1"],"keys":["v2"],` +
		`"license":{"generation":3,"name":"acme-chat-7b","uid":"77aa"},` +
		`"message":"licence \"acme-chat-7b\" and grant chat <cover> it","namespace":"ml-prod","node":"node-1",` +
		`"owner":{"kind":"ReplicaSet","name":"llm-7d9f"},"pod":{"generation":1,"name":"llm-7d9f-x","uid":"5f2e"},` +
		`"reason":"Entitled","serviceAccount":"llm-server","time":"2026-11-21T12:00:00.123456789Z","type":"KeyReleased",` +
		`"v":1,"writer":"operator-0"}`
	if diff := cmp.Diff(want, string(leaf)); diff != "" {
		t.Errorf("the form of the leaves changed, which breaks every reader (-want +got):\n%s", diff)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	local := release()
	local.Time = noon.In(time.FixedZone("CET", 3600))
	repeat := release()
	repeat.Type, repeat.Count, repeat.Of = DenialsRepeated, 41, "Denied/1"
	for name, e := range map[string]Entry{"full": release(), "empty": {Type: Gap}, "local time": local, "repeat": repeat} {
		t.Run(name, func(t *testing.T) {
			e = e.complete(noon, "operator-0")
			leaf, err := e.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			back, err := Parse(string(leaf))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e, back); diff != "" {
				t.Errorf("entry changed on its way (-written +read):\n%s", diff)
			}
			if !back.Time.Equal(noon) || back.Time.Location() != time.UTC {
				t.Errorf("time is %v, want %v", back.Time, noon)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, leaf := range map[string]string{
		"nothing":       "",
		"not JSON":      "Denied",
		"another form":  `{"kind":"Event"}`,
		"no type":       `{"v":1}`,
		"not UTF-8":     "{\"v\":1,\"type\":\"\xff\"}",
		"beyond bounds": `{"v":1,"type":"Gap","message":"` + strings.Repeat("x", MaxLeafBytes) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := Parse(leaf); err == nil {
				t.Errorf("parsed %+v", e)
			}
		})
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	e, err := Parse(`{"v":2,"type":"Denied","time":"2026-11-21T12:00:00Z","id":"x","later":{"a":1}}`)
	if err != nil || e.Type != Denied || e.Version != 2 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestIDs(t *testing.T) {
	id := func(change func(*Entry)) string {
		e := release()
		change(&e)
		return e.complete(noon, "w").ID
	}
	same := func(change func(*Entry)) bool {
		first, second := id(change), id(change)
		return first == second
	}
	as := func(t Type) func(*Entry) { return func(e *Entry) { e.Type = t } }
	for _, stable := range []Type{Admitted, LicenseCreated, LicenseChanged, LicenseDeleted, GrantCreated, GrantChanged, GrantDeleted} {
		if !same(as(stable)) {
			t.Errorf("%s: two entries of the same thing differ in their ID", stable)
		}
	}
	for _, random := range []Type{Denied, KeyReleased, KeyRefused, Gap, DenialsRepeated} {
		if same(as(random)) {
			t.Errorf("%s: two entries have the same ID, though each is a thing of its own", random)
		}
	}
	seen := map[string]string{}
	for name, change := range map[string]func(*Entry){
		"as is":                      func(*Entry) {},
		"another pod":                func(e *Entry) { e.Pod.UID = "other" },
		"another licence":            func(e *Entry) { e.License.UID = "other" },
		"another generation":         func(e *Entry) { e.License.Generation++ },
		"pod and licence interposed": func(e *Entry) { e.Pod.UID, e.License.UID = e.License.UID, e.Pod.UID },
	} {
		got := id(func(e *Entry) { e.Type = Admitted; change(e) })
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have the same ID %s", name, other, got)
		}
		seen[got] = name
	}
	nameless := func(e *Entry) { e.Type, e.Pod.UID = Admitted, "" }
	if same(nameless) {
		t.Error("pods without a UID are taken for one")
	}
	long := func(e *Entry) { e.Type, e.Pod.UID = Admitted, strings.Repeat("u", 500) }
	if got := id(long); got != id(long) || len(got) > maxID {
		t.Errorf("the ID of a long UID is %q", got)
	}
}

func TestObjectAndOwner(t *testing.T) {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", Generation: 4, OwnerReferences: []metav1.OwnerReference{
		{Kind: "Other", Name: "o"}, {Kind: "ReplicaSet", Name: "r", Controller: &yes},
	}}}
	if got := ObjectOf(pod); got != (Object{Name: "p", UID: "u", Generation: 4}) {
		t.Errorf("object %+v", got)
	}
	if got := OwnerOf(pod); got != (Owner{Kind: "ReplicaSet", Name: "r"}) {
		t.Errorf("owner %+v", got)
	}
	if got := OwnerOf(&corev1.Pod{}); got != (Owner{}) {
		t.Errorf("owner of a bare pod %+v", got)
	}
}

// fill sets every string, list and number of an entry, so that a field that is added later is not forgotten.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<63 - 1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1000, 1000))
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(noon))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	}
}

var hostile = map[string]string{
	"long":             strings.Repeat("x", 1<<18),
	"quotes":           strings.Repeat(`"`, 1<<14),
	"backslashes":      strings.Repeat(`\`, 1<<14),
	"markup":           strings.Repeat("<>&", 1<<14),
	"control":          strings.Repeat("\x00\x1b[2J\x7f", 1<<14),
	"not UTF-8":        strings.Repeat("\xff\xfe", 1<<14),
	"half a character": "abc\xe2\x82",
	"surrogate":        "\xed\xa0\x80",
	"wide":             strings.Repeat("𝕏", 1<<14),
	"bidi":             strings.Repeat("\u202e\u2066\u2028", 1<<14),
	"line ends":        strings.Repeat("\r\n\t", 1<<14),
	"mixed":            strings.Repeat("a\"\\é𝕏\n", 1<<13),
}

func TestHostileEntriesStayBounded(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			var e Entry
			fill(reflect.ValueOf(&e).Elem(), text)
			leaf, err := e.complete(noon, text).Canonical()
			if err != nil {
				t.Fatal(err)
			}
			if len(leaf) > MaxLeafBytes || !utf8.Valid(leaf) {
				t.Errorf("leaf has %d bytes, UTF-8 %v", len(leaf), utf8.Valid(leaf))
			}
			back, err := Parse(string(leaf))
			if err != nil {
				t.Fatal(err)
			}
			if !back.Truncated {
				t.Error("the entry does not say that it was shortened")
			}
			for _, bad := range "\x00\x1b\x7f\r\n\t\u202e\u2066\u2028" {
				if strings.ContainsRune(back.Message+back.Images[0]+back.Owner.Name, bad) {
					t.Errorf("the leaf holds %q, which deceives whoever reads it in a terminal", bad)
				}
			}
		})
	}
}

func TestLargestLeaf(t *testing.T) {
	var e Entry
	fill(reflect.ValueOf(&e).Elem(), strings.Repeat("x", MaxLeafBytes))
	leaf, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if len(leaf) < MaxLeafBytes*9/10 {
		t.Errorf("the largest leaf has %d bytes of %d: the bounds could be wider", len(leaf), MaxLeafBytes)
	}
}

func TestHonestEntriesAreNotShortened(t *testing.T) {
	e := release()
	e.Pod.Name, e.Owner.Name = strings.Repeat("p", 253), strings.Repeat("o", 253)
	e.ServiceAccount, e.Node, e.Grant.Name = strings.Repeat("s", 253), strings.Repeat("n", 253), strings.Repeat("g", 253)
	e.Namespace, e.License.Name = strings.Repeat("n", 63), strings.Repeat("l", 50)
	e.Pod.UID = "8d2ac5a5-0e4c-4a4b-9f5e-1c64ad2c4b1e"
	e.Keys = nil
	for n := range 8 {
		e.Keys = append(e.Keys, strings.Repeat("k", 62)+strconv.Itoa(n))
	}
	e.Images = []string{"registry.example.com/" + strings.Repeat("r", 234) + ":" + strings.Repeat("t", 128) + "@sha256:" + strings.Repeat("0", 64)}
	e = e.complete(noon, "modelrights-operator-7d9f8b6c5d-x2x4z")
	if e.Truncated {
		t.Errorf("an entry with the longest valid names was shortened: %+v", e)
	}
}

func TestBoundText(t *testing.T) {
	for name, test := range map[string]struct {
		in      string
		limit   int
		want    string
		changed bool
	}{
		"empty":               {"", 3, "", false},
		"fits":                {"abcdef", 6, "abcdef", false},
		"cut":                 {"abcdefg", 6, "abc…", true},
		"escapes count":       {`""""`, 6, `"…`, true},
		"wide fits":           {"ééé", 6, "ééé", false},
		"wide cut":            {"éééé", 6, "é…", true},
		"only the ellipsis":   {"𝕏𝕏", 4, "…", true},
		"replacement stays":   {"a\ufffd", 9, "a\ufffd", false},
		"invalid replaced":    {"a\xff", 9, "a\ufffd", true},
		"line end is a space": {"a\nb", 9, "a b", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed := boundText(test.in, test.limit, jsonBytes)
			if got != test.want || changed != test.changed {
				t.Errorf("got %q, %v, want %q, %v", got, changed, test.want, test.changed)
			}
		})
	}
}

func TestManyImages(t *testing.T) {
	e := release()
	e.Images = nil
	for range 100 {
		e.Images = append(e.Images, "registry.example.com/models/chat-7b:2.1")
	}
	e = e.complete(noon, "w")
	if n := len(e.Images); n < 5 || n == 100 || !e.Truncated {
		t.Errorf("%d images are left of 100, truncated %v", n, e.Truncated)
	}
}

func FuzzEntry(f *testing.F) {
	for _, text := range hostile {
		if len(text) < 1<<16 {
			f.Add(text, "registry.example.com/a", int64(1))
		}
	}
	f.Fuzz(func(t *testing.T, text, image string, n int64) {
		e := Entry{
			Type: Denied, Namespace: text, Pod: Object{Name: text, UID: text, Generation: n}, Owner: Owner{Kind: text, Name: image},
			ServiceAccount: image, License: Object{Name: image}, Images: []string{image, text, image}, Message: text + image, Count: n, Actor: text,
		}.complete(noon, text)
		leaf, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if len(leaf) > MaxLeafBytes || !utf8.Valid(leaf) {
			t.Fatalf("leaf of %d bytes", len(leaf))
		}
		again, err := jcs.Transform(leaf)
		if err != nil || string(again) != string(leaf) {
			t.Fatalf("leaf is not canonical: %v", err)
		}
		back, err := Parse(string(leaf))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			t.Fatalf("entry changed on its way:\n%s", diff)
		}
		plain, err := json.Marshal(string(leaf))
		if err != nil || len(plain)+1 > storedBytes(string(leaf)) {
			t.Fatalf("leaf takes %d bytes in etcd, counted %d", len(plain)+1, storedBytes(string(leaf)))
		}
		if got := Summary(e, 255); len(got) > 512 || !utf8.ValidString(got) {
			t.Fatalf("summary of %d bytes", len(got))
		}
	})
}

func TestSummary(t *testing.T) {
	with := func(change func(*Entry)) Entry {
		e := release()
		change(&e)
		return e
	}
	for name, test := range map[string]struct {
		entry Entry
		more  int
		want  string
	}{
		"release":      {release(), 3, "KeyReleased acme-chat-7b to ml-prod/llm-7d9f-x (+3 more)"},
		"admission":    {with(func(e *Entry) { e.Type = Admitted }), 0, "Admitted ml-prod/llm-7d9f-x under acme-chat-7b"},
		"denial":       {with(func(e *Entry) { e.Type, e.Reason = Denied, "NoGrant" }), 0, "Denied NoGrant for ml-prod/llm-7d9f-x of acme-chat-7b"},
		"nameless pod": {with(func(e *Entry) { e.Type, e.Reason, e.Pod, e.License = Denied, "Unlicensed", Object{}, Object{} }), 0, "Denied Unlicensed for ml-prod/replicaset/llm-7d9f of registry.example.com/models/chat-7b:2.1"},
		"wiped":        {with(func(e *Entry) { e.Type, e.Reason = KeyWiped, "NoGrant" }), 0, "KeyWiped NoGrant for ml-prod/llm-7d9f-x of acme-chat-7b"},
		"pod is gone": {with(func(e *Entry) { e.Type, e.Reason, e.Pod = SeatEnded, "Unpublished", Object{UID: "56bf-1"} }), 0,
			"SeatEnded Unpublished for ml-prod/56bf-1 of acme-chat-7b"},
		"repeats": {with(func(e *Entry) { e.Type, e.Reason, e.Count = DenialsRepeated, "NoGrant", 7 }), 0, "DenialsRepeated 7 times NoGrant for ml-prod/llm-7d9f-x of acme-chat-7b"},
		"licence": {with(func(e *Entry) { e.Type, e.Actor = LicenseChanged, "alice" }), 0, "LicenseChanged acme-chat-7b by alice"},
		"grant":   {with(func(e *Entry) { e.Type, e.Actor = GrantDeleted, "" }), 0, "GrantDeleted ml-prod/chat of acme-chat-7b"},
		"gap":     {Entry{Type: Gap, Count: 9, Reason: v1alpha1.ReasonDenialsCapped, Namespace: "dev"}, 0, "Gap of 9 DenialsCapped in dev"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Summary(test.entry, test.more); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

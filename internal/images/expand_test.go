package images

import (
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestExpand(t *testing.T) {
	known := variables{"A": "a", "EMPTY": "", "NESTED": "$(A)", "B C": "bc", "A(": "odd"}
	for text, want := range map[string]string{
		"":                     "",
		"plain":                "plain",
		"$(A)":                 "a",
		"x$(A)y$(A)":           "xaya",
		"$(EMPTY)":             "",
		"$(NESTED)":            "$(A)", // once, and not again
		"$(B C)":               "bc",
		"$(UNKNOWN)":           "$(UNKNOWN)",
		"$$(A)":                "$(A)",
		"$$$(A)":               "$a",
		"$$$$(A)":              "$$(A)",
		"$$":                   "$",
		"$":                    "$",
		"a$":                   "a$",
		"$A":                   "$A",
		"$é$(A)":               "$éa",
		"$(A":                  "$(A",
		"$($(A)":               "$($(A)", // the name ends at the first parenthesis
		"$(A($(A)":             "$(A($(A)",
		"$()":                  "$()",
		"${A}":                 "${A}",
		"$(A)$":                "a$",
		"oci://$(A).b/c:$(X)":  "oci://a.b/c:$(X)",
		"$(A)$$(A)$(A) $(A) $": "a$(A)a a $",
	} {
		if got, ok := known.expand(text); got != want || !ok {
			t.Errorf("%q becomes %q, %t; want %q", text, got, ok, want)
		}
	}
}

func TestExpandIsBounded(t *testing.T) {
	known := variables{}
	known.set(&corev1.EnvVar{Name: "A", Value: strings.Repeat("a", 1024)})
	for i := range 20 {
		value, ok := known.set(&corev1.EnvVar{Name: "A", Value: "$(A)$(A)"})
		if len(value) > maxArgument || ok != (i < 7) {
			t.Fatalf("step %d: %d bytes, %t", i, len(value), ok)
		}
		if !ok {
			break
		}
	}
	long := strings.Repeat("$(x", 200_000)
	if got, ok := (variables{}).expand(long); got != long || !ok {
		t.Error("what the pod holds itself is cut off")
	}
}

func TestSet(t *testing.T) {
	source := func(isOptional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "a", Optional: isOptional}}
	}
	known := variables{}
	for _, step := range []struct {
		e    corev1.EnvVar
		want string
	}{
		{corev1.EnvVar{Name: "B", Value: "$(A)"}, "$(A)"}, // a later one is not known yet
		{corev1.EnvVar{Name: "A", Value: "1"}, "1"},
		{corev1.EnvVar{Name: "C", Value: "$(A)$(B)"}, "1$(A)"},
		{corev1.EnvVar{Name: "A", Value: "2$(A)"}, "21"}, // the earlier value
		{corev1.EnvVar{Name: "A", ValueFrom: source(ptr.To(true))}, ""},
		{corev1.EnvVar{Name: "D", Value: "$(A)"}, "21"}, // what it comes from need not exist
		{corev1.EnvVar{Name: "A", ValueFrom: source(nil)}, ""},
		{corev1.EnvVar{Name: "D", Value: "$(A)"}, "$(A)"},
		{corev1.EnvVar{Name: "E"}, ""},
		{corev1.EnvVar{Name: "F", Value: "x$(E)"}, "x"},
	} {
		if got, ok := known.set(&step.e); got != step.want || !ok {
			t.Errorf("%s is %q, %t; want %q", step.e.Name, got, ok, step.want)
		}
	}
}

// FuzzExpand compares with the kubelet's rules, written down as one expression: $$, a name in parentheses, or a dollar
// with the character behind it.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"$(A)", "$$(A)", "$($(A)", "$(A", "$", "a$$$", "$\xff$(A)", "$(é)", "$()$(A)$(UNKNOWN)", "$(A)$"} {
		f.Add(seed, "value", "é")
	}
	rules := regexp.MustCompile(`(?s)\$\$|\$\([^)]*\)|\$.`)
	f.Fuzz(func(t *testing.T, text, a, e string) {
		known := variables{"A": a, "é": e}
		want := rules.ReplaceAllStringFunc(text, func(m string) string {
			switch {
			case m == "$$":
				return "$"
			case strings.HasPrefix(m, "$(") && strings.HasSuffix(m, ")"):
				if v, ok := known[m[2:len(m)-1]]; ok {
					return v
				}
			}
			return m
		})
		got, ok := known.expand(text)
		if ok && got != want || !ok && len(want) <= maxArgument {
			t.Fatalf("%q becomes %q, %t; want %q", text, got, ok, want)
		}
	})
}

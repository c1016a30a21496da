package images

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const chatURI = "oci://registry.example.com/models/chat:2.1"

func inferredFrom(spec *corev1.PodSpec) []Use {
	var found []Use
	for _, u := range FromPod(spec) {
		if u.Confidence != Declared {
			found = append(found, u)
		}
	}
	return found
}

func TestFromPodInfers(t *testing.T) {
	const chat = "registry.example.com/models/chat:2.1"
	value := func(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }
	source := func(name string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}
	}
	main := func(change func(*corev1.Container)) *corev1.PodSpec {
		c := corev1.Container{Name: "main", Image: "server"}
		change(&c)
		return &corev1.PodSpec{Containers: []corev1.Container{c}}
	}
	use := func(kind UseKind, confidence Confidence, field, image string) Use {
		return Use{Kind: kind, Confidence: confidence, Name: "main", Field: "spec.containers[0]." + field, Image: image}
	}
	tests := map[string]struct {
		spec *corev1.PodSpec
		want []Use
	}{
		"nothing": {main(func(c *corev1.Container) { c.Args = []string{"--model=/models", "https://a.b/c"} }), nil},
		"KServe's storage initialiser": {
			&corev1.PodSpec{InitContainers: []corev1.Container{{
				Name: "storage-initializer", Image: "kserve/storage-initializer:v0.15.0", Args: []string{chatURI, "/mnt/models"},
			}}},
			[]Use{{Kind: UseArgument, Confidence: Inferred, Name: "storage-initializer", Field: "spec.initContainers[0].args[0]", Image: chat}},
		},
		"an argument, a command and a variable": {
			main(func(c *corev1.Container) {
				c.Command = []string{"sh", "-c", "serve " + chatURI}
				c.Args = []string{"a", "--m=" + chatURI}
				c.Env = []corev1.EnvVar{value("X", "x"), value("MODEL", chatURI)}
			}),
			[]Use{
				use(UseEnvironmentVariable, Inferred, "env[1].value", chat), use(UseCommand, Inferred, "command[2]", chat),
				use(UseArgument, Inferred, "args[1]", chat),
			},
		},
		"several in one": {
			main(func(c *corev1.Container) { c.Args = []string{chatURI + "," + "modelcar://quay.io/a/b"} }),
			[]Use{use(UseArgument, Inferred, "args[0]", chat), use(UseArgument, Inferred, "args[0]", "quay.io/a/b")},
		},
		"an ephemeral container": {
			&corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "debug", Image: "busybox", Command: []string{chatURI},
			}}}},
			[]Use{{Kind: UseCommand, Confidence: Inferred, Name: "debug", Field: "spec.ephemeralContainers[0].command[0]", Image: chat}},
		},
		"variables": {
			main(func(c *corev1.Container) {
				c.Env = []corev1.EnvVar{value("HOST", "registry.example.com"), value("REPO", "$(HOST)/models/chat"), value("TAG", "2.1")}
				c.Args = []string{"oci://$(REPO):$(TAG)"}
			}),
			[]Use{use(UseArgument, Inferred, "args[0]", chat)},
		},
		"a variable that holds the scheme": {
			main(func(c *corev1.Container) {
				c.Env = []corev1.EnvVar{value("URI", "oci://"), value("REPO", "registry.example.com/models/chat:2.1")}
				c.Args = []string{"$(URI)$(REPO)"}
			}),
			[]Use{use(UseArgument, Inferred, "args[0]", chat)},
		},
		"an escaped variable is the program's": {
			main(func(c *corev1.Container) {
				c.Env = []corev1.EnvVar{value("TAG", "2.1")}
				c.Args = []string{"oci://registry.example.com/models/chat:$$(TAG)"}
			}),
			[]Use{use(UseArgument, Unresolved, "args[0]", "registry.example.com/models/chat:$(TAG)")},
		},
		"a variable from elsewhere": {
			main(func(c *corev1.Container) {
				c.Env = []corev1.EnvVar{source("TAG")}
				c.Args = []string{"oci://registry.example.com/models/chat:$(TAG)"}
			}),
			[]Use{use(UseArgument, Unresolved, "args[0]", "registry.example.com/models/chat:$(TAG)")},
		},
		"variables that may come from elsewhere": {
			main(func(c *corev1.Container) {
				c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{}}}
				c.Args = []string{"oci://$(REPO)"}
			}),
			[]Use{use(UseArgument, Unresolved, "args[0]", "$(REPO)")},
		},
		"another container's variable": {
			&corev1.PodSpec{Containers: []corev1.Container{
				{Name: "other", Env: []corev1.EnvVar{value("TAG", "2.1")}}, {Name: "main", Args: []string{"oci://a.b/c:$(TAG)"}},
			}},
			[]Use{{Kind: UseArgument, Confidence: Unresolved, Name: "main", Field: "spec.containers[1].args[0]", Image: "a.b/c:$(TAG)"}},
		},
		"a scheme in pieces": {
			main(func(c *corev1.Container) {
				c.Env = []corev1.EnvVar{value("A", "oci:")}
				c.Args = []string{"$(A)//registry.example.com/models/chat"}
			}),
			nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := inferredFrom(test.spec); !reflect.DeepEqual(got, test.want) {
				t.Errorf("inferred %+v, want %+v", got, test.want)
			}
			if len(test.want) > 0 != NamesSchemes(test.spec) {
				t.Errorf("NamesSchemes: %t", NamesSchemes(test.spec))
			}
		})
	}
}

// TestExcess: whatever a pod holds, it is looked at in bounded time, and what is not looked at is not passed over.
func TestExcess(t *testing.T) {
	doubling := func(steps int) []corev1.EnvVar {
		env := []corev1.EnvVar{{Name: "V0", Value: strings.Repeat("x", 1024)}}
		for i := range steps {
			env = append(env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i+1), Value: fmt.Sprintf("$(V%d)$(V%d)", i, i)})
		}
		return env
	}
	repeated := func(n int, text string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = text
		}
		return all
	}
	tests := map[string]struct {
		main   corev1.Container
		excess bool
		uses   int
	}{
		"as many images as are looked at": {corev1.Container{Args: repeated(maxInferred, chatURI)}, false, maxInferred},
		"one image more":                  {corev1.Container{Args: repeated(maxInferred+1, chatURI)}, true, maxInferred + 1},
		"one more in the same text":       {corev1.Container{Args: []string{strings.Repeat(chatURI+" ", maxInferred+1)}}, true, maxInferred + 1},
		"a variable too long to be run":   {corev1.Container{Env: doubling(8), Args: []string{chatURI}}, true, 1},
		"an argument too long to be run":  {corev1.Container{Env: doubling(7), Args: []string{"$(V7)" + chatURI}}, true, 1},
		"a long text as it stands":        {corev1.Container{Args: []string{strings.Repeat("x", 2*maxArgument) + chatURI}}, false, 1},
		"more text than is looked at":     {corev1.Container{Env: doubling(7), Args: append(repeated(100, "$(V7)"), chatURI)}, true, 1},
		"a million variables": {
			corev1.Container{Env: append(doubling(7), many(100_000, "$(V7)")...), Args: []string{chatURI}}, true, 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			uses := inferredFrom(&corev1.PodSpec{Containers: []corev1.Container{test.main}})
			if len(uses) != test.uses {
				t.Fatalf("%d uses, want %d", len(uses), test.uses)
			}
			if last := uses[len(uses)-1]; last.Excess != test.excess || test.excess && (last.Image != "" || last.Confidence != Inferred || last.Field == "") {
				t.Errorf("the last use is %+v; excess: %t", last, test.excess)
			}
		})
	}
}

func many(n int, value string) []corev1.EnvVar {
	all := make([]corev1.EnvVar, n)
	for i := range all {
		all[i] = corev1.EnvVar{Name: fmt.Sprintf("M%d", i), Value: value}
	}
	return all
}

func TestSameTexts(t *testing.T) {
	spec := func(change func(*corev1.PodSpec)) *corev1.PodSpec {
		s := &corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "i", Command: []string{"a"}}},
			Containers:     []corev1.Container{{Name: "c", Args: []string{"a"}, Env: []corev1.EnvVar{{Name: "A", Value: "a"}}}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "e", Args: []string{"a"},
			}}},
		}
		change(s)
		return s
	}
	base := spec(func(*corev1.PodSpec) {})
	if !SameTexts(base, spec(func(s *corev1.PodSpec) { s.Containers[0].Image = "x" })) {
		t.Error("an image is no text")
	}
	for i, change := range []func(*corev1.PodSpec){
		func(s *corev1.PodSpec) { s.InitContainers[0].Command[0] = "b" }, func(s *corev1.PodSpec) { s.Containers[0].Args[0] = "b" },
		func(s *corev1.PodSpec) { s.Containers[0].Env[0].Value = "b" }, func(s *corev1.PodSpec) { s.Containers[0].Env[0].Name = "B" },
		func(s *corev1.PodSpec) { s.EphemeralContainers[0].Args[0] = "b" }, func(s *corev1.PodSpec) { s.EphemeralContainers = nil },
		func(s *corev1.PodSpec) { s.Containers[0].Name = "d" },
	} {
		if SameTexts(base, spec(change)) {
			t.Errorf("change %d goes unnoticed", i)
		}
	}
}

package images

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

const (
	// maxInferred is how many images are looked at in the commands, arguments and variables of one pod.
	maxInferred = 512

	// maxExpanded is how much text of them is looked at once variables are expanded, in bytes. It bounds what variables
	// that repeat one another can make of a small pod.
	maxExpanded = 8 << 20
)

// program is what a container of any kind runs.
type program struct {
	list          string // spec.containers, say
	index         int
	container     string
	command, args []string
	env           []corev1.EnvVar
}

// programs lists what every container runs, in the order in which the pod's containers start.
func programs(spec *corev1.PodSpec) []program {
	all := make([]program, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		all = append(all, program{"spec.initContainers", i, c.Name, c.Command, c.Args, c.Env})
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		all = append(all, program{"spec.containers", i, c.Name, c.Command, c.Args, c.Env})
	}
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		all = append(all, program{"spec.ephemeralContainers", i, c.Name, c.Command, c.Args, c.Env})
	}
	return all
}

// NamesSchemes says whether a command, an argument or a variable of the pod holds one of Schemes as it is written there.
// Without it, FromPod infers nothing, even where expanded variables would make up a URI: so that what is decided can be
// told from the object's strings alone, as match conditions do.
func NamesSchemes(spec *corev1.PodSpec) bool {
	named := func(command, args []string, env []corev1.EnvVar) bool {
		return slices.ContainsFunc(command, NamesScheme) || slices.ContainsFunc(args, NamesScheme) ||
			slices.ContainsFunc(env, func(e corev1.EnvVar) bool { return NamesScheme(e.Value) })
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; named(c.Command, c.Args, c.Env) {
			return true
		}
	}
	for i := range spec.Containers {
		if c := &spec.Containers[i]; named(c.Command, c.Args, c.Env) {
			return true
		}
	}
	for i := range spec.EphemeralContainers {
		if c := &spec.EphemeralContainers[i]; named(c.Command, c.Args, c.Env) {
			return true
		}
	}
	return false
}

// SameTexts says whether two pods have the same commands, arguments and variables in containers of the same place.
func SameTexts(a, b *corev1.PodSpec) bool {
	return slices.EqualFunc(programs(a), programs(b), func(p, q program) bool {
		return p.list == q.list && p.container == q.container && slices.Equal(p.command, q.command) && slices.Equal(p.args, q.args) &&
			slices.EqualFunc(p.env, q.env, func(e, f corev1.EnvVar) bool { return e.Name == f.Name && e.Value == f.Value })
	})
}

// fromTexts lists the images that commands, arguments and variables name.
func fromTexts(spec *corev1.PodSpec) []Use {
	r := textReader{images: maxInferred, bytes: maxExpanded}
	for _, p := range programs(spec) {
		if r.read(p); r.excess {
			break
		}
	}
	return r.uses
}

// textReader gathers uses until it has seen as much as it may.
type textReader struct {
	uses          []Use
	images, bytes int // still to be looked at
	excess        bool
}

// read takes the texts of one program: variables first, since the others may refer to them.
func (r *textReader) read(p program) {
	known := variables{}
	for i := 0; i < len(p.env) && !r.excess; i++ {
		value, ok := known.set(&p.env[i])
		r.take(UseEnvironmentVariable, p, i, value, ok)
	}
	for i := 0; i < len(p.command) && !r.excess; i++ {
		text, ok := known.expand(p.command[i])
		r.take(UseCommand, p, i, text, ok)
	}
	for i := 0; i < len(p.args) && !r.excess; i++ {
		text, ok := known.expand(p.args[i])
		r.take(UseArgument, p, i, text, ok)
	}
}

// take looks at one text, the i-th of its kind, and notes where it is one too many or was too long to be expanded.
func (r *textReader) take(kind UseKind, p program, i int, text string, ok bool) {
	found, all := mentions(text, r.images)
	r.images -= len(found)
	r.bytes -= len(text)
	r.excess = !ok || !all || r.bytes < 0
	if len(found) == 0 && !r.excess {
		return
	}
	list := map[UseKind]string{UseEnvironmentVariable: "env[%d].value", UseCommand: "command[%d]", UseArgument: "args[%d]"}[kind]
	use := Use{Kind: kind, Confidence: Inferred, Name: p.container, Field: fmt.Sprintf("%s[%d]."+list, p.list, p.index, i)}
	for _, m := range found {
		mentioned := use
		mentioned.Image, mentioned.Confidence = m.Image, m.Confidence
		r.uses = append(r.uses, mentioned)
	}
	if r.excess {
		use.Excess = true
		r.uses = append(r.uses, use)
	}
}

package images

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxArgument bounds an expanded string, in bytes: Linux runs no program with a longer argument or variable
// (MAX_ARG_STRLEN, execve(2)).
const maxArgument = 128 << 10

// variables are the literal environment variables of a container by name, expanded.
type variables map[string]string

// expand replaces $(NAME) by the variable's value and $$ by $, once and from left to right, as the kubelet does for
// commands, arguments and variables (k8s.io/kubernetes/third_party/forked/golang/expansion). A name that is not known is
// left as it is. Ok is false where variables make it longer than maxArgument, so that no container could start with it.
func (v variables) expand(text string) (expanded string, ok bool) {
	if strings.IndexByte(text, '$') < 0 {
		return text, true
	}
	var b strings.Builder
	limit := max(maxArgument, len(text))       // what a pod holds itself is not cut off
	closed := strings.LastIndexByte(text, ')') // beyond it, no name can end
	for at := 0; ; {
		i := strings.IndexByte(text[at:], '$')
		if i < 0 || at+i == len(text)-1 {
			b.WriteString(text[at:])
			break
		}
		b.WriteString(text[at : at+i])
		at += i
		switch {
		case text[at+1] == '$':
			b.WriteByte('$')
			at += 2
		case text[at+1] == '(' && at < closed:
			name, _, _ := strings.Cut(text[at+2:], ")")
			value, known := v[name]
			if !known {
				value = "$(" + name + ")"
			}
			b.WriteString(value)
			at += len("$()") + len(name)
		default:
			b.WriteString(text[at : at+2])
			at += 2
		}
		if b.Len() > limit {
			break
		}
	}
	if b.Len() > limit {
		return "", false
	}
	return b.String(), true
}

// set takes account of one variable of a container, in the order of the container's fields, and returns the value that
// the program sees: nothing where that comes from elsewhere. Ok is as in expand.
func (v variables) set(e *corev1.EnvVar) (value string, ok bool) {
	if e.Value == "" && e.ValueFrom != nil {
		if !optional(e.ValueFrom) {
			delete(v, e.Name)
		}
		return "", true
	}
	value, ok = v.expand(e.Value)
	v[e.Name] = value
	return value, ok
}

// optional says whether a variable may keep an earlier value of the same name, since what it comes from need not exist.
func optional(source *corev1.EnvVarSource) bool {
	isTrue := func(b *bool) bool { return b != nil && *b }
	return source.ConfigMapKeyRef != nil && isTrue(source.ConfigMapKeyRef.Optional) ||
		source.SecretKeyRef != nil && isTrue(source.SecretKeyRef.Optional) ||
		source.FileKeyRef != nil && isTrue(source.FileKeyRef.Optional)
}

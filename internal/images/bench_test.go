package images

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkFromPod is what an ordinary pod costs, and one whose texts name images.
func BenchmarkFromPod(b *testing.B) {
	pod := func(arg string) *corev1.PodSpec {
		c := corev1.Container{Name: "main", Image: "registry.example.com/web:1", Command: []string{"/server"}}
		for i := range 20 {
			c.Args = append(c.Args, fmt.Sprintf("--flag-%d=https://example.com/some/path?x=%d", i, i))
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: "postgres://user@db.example.com:5432/app"})
		}
		c.Args = append(c.Args, arg)
		return &corev1.PodSpec{Containers: []corev1.Container{c, c, c}}
	}
	for name, spec := range map[string]*corev1.PodSpec{"Ordinary": pod("x"), "Inferred": pod(chatURI)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				FromPod(spec)
			}
		})
	}
	b.Run("Hostile", func(b *testing.B) {
		spec := &corev1.PodSpec{Containers: []corev1.Container{{Args: []string{chatURI}, Env: append(doublings(), many(50_000, "$(V7)")...)}}}
		for b.Loop() {
			FromPod(spec)
		}
	})
}

func doublings() []corev1.EnvVar {
	env := []corev1.EnvVar{{Name: "V0", Value: fmt.Sprintf("%01024d", 0)}}
	for i := range 7 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i+1), Value: fmt.Sprintf("$(V%d)$(V%d)", i, i)})
	}
	return env
}

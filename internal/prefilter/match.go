package prefilter

import (
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Matches says what Expression does: of a pod that is created (old is nil), or of an update. Specs are only read.
func (f Filter) Matches(spec, old *corev1.PodSpec) bool {
	if old != nil && (equality.Semantic.DeepEqual(spec, old)) {
		return false
	}
	return f.matchesImages(spec) || old != nil && f.matchesImages(old) || f.matchesTexts(spec)
}

// matchesImages says whether an image or a volume may be governed.
func (f Filter) matchesImages(spec *corev1.PodSpec) bool {
	if len(spec.Volumes) > maxVolumes {
		return true
	}
	var references []string
	add := func(image string) {
		if image != "" {
			references = append(references, image)
		}
	}
	for i := range spec.Volumes {
		switch v := &spec.Volumes[i]; {
		case v.CSI != nil && v.CSI.Driver == v1alpha1.CSIDriverName:
			return true
		case v.Image != nil:
			add(v.Image.Reference)
		}
	}
	if f.rx == nil {
		return false
	}
	if len(spec.Containers)+len(spec.InitContainers)+len(spec.EphemeralContainers) > maxContainers {
		return true
	}
	eachContainer(spec, func(c *corev1.Container) { add(c.Image) })
	tens := 0
	for _, image := range references {
		tens += utf8.RuneCountInString(image)/10 + 1
	}
	if tens > f.tensOfImages() {
		return true
	}
	for _, image := range references {
		if f.MatchesImage(image) {
			return true
		}
	}
	return false
}

// MatchesImage says whether a reference, as it stands in a pod, may be governed.
func (f Filter) MatchesImage(image string) bool {
	return f.rx != nil && (utf8.RuneCountInString(image) > maxImage || !grammarRegexp.MatchString(image) || f.rx.MatchString(image))
}

// matchesTexts says whether a command, an argument or a variable may name an image.
func (f Filter) matchesTexts(spec *corev1.PodSpec) bool {
	if f.rx == nil {
		return false
	}
	count, length := 0, 0
	var uris []string
	add := func(text string) {
		if strings.Contains(text, uriMark) {
			length += utf8.RuneCountInString(text)
			uris = append(uris, text)
		}
	}
	eachContainer(spec, func(c *corev1.Container) {
		count += len(c.Command) + len(c.Args) + len(c.Env)
		for _, text := range c.Command {
			add(text)
		}
		for _, text := range c.Args {
			add(text)
		}
		for i := range c.Env {
			add(c.Env[i].Value)
		}
	})
	if count > maxTexts || length > maxURIs {
		return true
	}
	for _, text := range uris {
		if schemes.MatchString(text) {
			return true
		}
	}
	return false
}

func eachContainer(spec *corev1.PodSpec, do func(*corev1.Container)) {
	for i := range spec.Containers {
		do(&spec.Containers[i])
	}
	for i := range spec.InitContainers {
		do(&spec.InitContainers[i])
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		do(&c)
	}
}

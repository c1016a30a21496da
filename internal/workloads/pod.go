package workloads

import (
	"modelrights.dev/modelrights/internal/images"
)

// looksLikePodSpec says whether a map is a pod spec by what it holds: a list of containers.
func looksLikePodSpec(m map[string]any) bool {
	containers, ok := m["containers"].([]any)
	if !ok || len(containers) == 0 {
		return false
	}
	for _, c := range containers {
		if _, ok := c.(map[string]any); !ok {
			return false
		}
	}
	return true
}

// describedBy is the template of the pods that a map with metadata and a pod spec describes.
func (t *Template) describedBy(m map[string]any, path string) *Template {
	described := &Template{Path: path, Namespace: t.Namespace, ServiceAccount: t.ServiceAccount}
	metadata, _ := m["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	for key, value := range labels {
		if s, ok := value.(string); ok {
			if described.Labels == nil {
				described.Labels = make(map[string]string, len(labels))
			}
			described.Labels[key] = s
		}
	}
	spec, _ := m["spec"].(map[string]any)
	if account := accountOf(spec); account != "" {
		described.ServiceAccount = account
	}
	return described
}

// accountOf is the service account that a map names in one of the usual fields.
func accountOf(m map[string]any) string {
	for _, key := range []string{"serviceAccountName", "serviceAccount"} {
		switch v := m[key].(type) {
		case string:
			if v != "" {
				return clip(v, MaxPath)
			}
		case map[string]any:
			if name, ok := v["name"].(string); ok && name != "" {
				return clip(name, MaxPath)
			}
		}
	}
	return ""
}

// podSpec walks a pod spec: its volumes and containers as what they are, and whatever else there is beside them.
func (w *walker) podSpec(spec map[string]any, t *Template, active states) {
	if !w.enter() {
		return
	}
	w.volumes(spec, t)
	for _, list := range []struct {
		key  string
		kind images.UseKind
	}{
		{"initContainers", images.UseInitContainer},
		{"containers", images.UseContainer},
		{"ephemeralContainers", images.UseEphemeralContainer},
	} {
		containers, _ := spec[list.key].([]any)
		e := element{key: list.key}
		w.at(e, func() {
			inList := active.next(e)
			for i, item := range containers {
				if c, ok := item.(map[string]any); ok {
					e := element{index: i, list: true}
					w.at(e, func() { w.container(c, list.kind, t, inList.next(e)) })
				}
			}
		})
	}
	w.fields(spec, t, active, "volumes", "initContainers", "containers", "ephemeralContainers")
}

// volumes walks the volumes of a pod spec, of which an image volume names an image.
func (w *walker) volumes(spec map[string]any, t *Template) {
	volumes, ok := spec["volumes"].([]any)
	if !ok {
		return
	}
	w.at(element{key: "volumes"}, func() {
		for i, item := range volumes {
			volume, ok := item.(map[string]any)
			if !ok || !w.enter() {
				continue
			}
			w.at(element{index: i, list: true}, func() {
				image, _ := volume["image"].(map[string]any)
				if reference, ok := image["reference"].(string); ok {
					w.at(element{key: "image"}, func() {
						w.at(element{key: "reference"}, func() {
							w.add(images.UseImageVolume, nameOf(volume), reference, images.Declared, t)
						})
					})
				}
				w.fields(volume, t, nil, "image")
			})
		}
	})
}

// container walks a container of a pod spec.
func (w *walker) container(c map[string]any, kind images.UseKind, t *Template, active states) {
	if !w.enter() {
		return
	}
	if image, ok := c["image"].(string); ok {
		w.at(element{key: "image"}, func() { w.add(kind, nameOf(c), image, images.Declared, t) })
	} else if c["image"] != nil {
		e := element{key: "image"}
		w.at(e, func() { w.value("image", c["image"], t, active.next(e)) })
	}
	seen := w.commandLine(c, t)
	w.fields(c, t, active, append(seen, "image")...)
}

func nameOf(m map[string]any) string {
	name, _ := m["name"].(string)
	return clip(name, MaxPath)
}

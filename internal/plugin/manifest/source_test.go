package manifest

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/resource"
)

// write makes files in a directory, each of one object whose kind is its name.
func write(t *testing.T, names ...string) string {
	t.Helper()
	directory := t.TempDir()
	for _, name := range names {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("kind: K\nmetadata: {name: "+name+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func TestRead(t *testing.T) {
	directory := write(t, "b.yaml", "a.yml", "c.json", "readme.md", "inner/d.yaml", "inner/deep/e.yaml")
	if err := os.WriteFile(filepath.Join(directory, "c.json"), []byte(`{"kind": "K", "metadata": {"name": "c.json"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(directory, link); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/x.yaml" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("kind: K\nmetadata: {name: served}\n"))
	}))
	t.Cleanup(served.Close)
	utf16 := filepath.Join(t.TempDir(), "utf16.yaml")
	if err := os.WriteFile(utf16, []byte("\xff\xfek\x00i\x00n\x00d\x00:\x00 \x00K\x00"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		options resource.FilenameOptions
		stdin   string
		want    []string
		err     string
	}{
		"a file":              {options: resource.FilenameOptions{Filenames: []string{directory + "/readme.md"}}, want: []string{"readme.md"}},
		"a directory":         {options: resource.FilenameOptions{Filenames: []string{directory}}, want: []string{"a.yml", "b.yaml", "c.json"}},
		"a directory, deep":   {options: resource.FilenameOptions{Filenames: []string{directory}, Recursive: true}, want: []string{"a.yml", "b.yaml", "c.json", "inner/d.yaml", "inner/deep/e.yaml"}},
		"a link to it":        {options: resource.FilenameOptions{Filenames: []string{link}}, want: []string{"a.yml", "b.yaml", "c.json"}},
		"a pattern":           {options: resource.FilenameOptions{Filenames: []string{directory + "/*.y*ml"}}, want: []string{"a.yml", "b.yaml"}},
		"standard input":      {options: resource.FilenameOptions{Filenames: []string{"-"}}, stdin: "kind: K\nmetadata: {name: in}", want: []string{"in"}},
		"a URL":               {options: resource.FilenameOptions{Filenames: []string{served.URL + "/x.yaml"}}, want: []string{"served"}},
		"UTF-16":              {options: resource.FilenameOptions{Filenames: []string{utf16}}, want: []string{"<nil>"}},
		"a URL that fails":    {options: resource.FilenameOptions{Filenames: []string{served.URL + "/y.yaml", directory + "/b.yaml"}}, want: []string{"b.yaml"}, err: "404"},
		"what does not exist": {options: resource.FilenameOptions{Filenames: []string{directory + "/none.yaml", directory + "/b.yaml"}}, want: []string{"b.yaml"}, err: "none.yaml: no such file"},
		"nothing to read":     {options: resource.FilenameOptions{Filenames: []string{t.TempDir()}}, err: "has no file with extension"},
		"too long":            {options: resource.FilenameOptions{Filenames: []string{"-"}}, stdin: strings.Repeat("#", maxSource+1), err: "larger than 64 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, errs := Reader{Stdin: strings.NewReader(test.stdin)}.Read(t.Context(), test.options)
			var names []string
			for _, line := range summary(objects, nil) {
				names = append(names, line[strings.LastIndexByte(line, ' ')+1:])
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
			switch {
			case test.err == "" && len(errs) > 0:
				t.Errorf("error %v", errs[0])
			case test.err != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), test.err)):
				t.Errorf("errors %v, want one with %q", errs, test.err)
			}
		})
	}
}

// TestKustomization: what kustomize builds is read, without kubectl and without a cluster.
func TestKustomization(t *testing.T) {
	directory := write(t, "pod.yaml")
	for name, content := range map[string]string{
		"pod.yaml":           "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: registry.example.com/m:1}]}\n",
		"kustomization.yaml": "resources: [pod.yaml]\nimages: [{name: registry.example.com/m, newTag: \"2\"}]\n",
	} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	objects, errs := Reader{}.Read(t.Context(), resource.FilenameOptions{Kustomize: directory})
	if len(errs) > 0 || len(objects) != 1 {
		t.Fatalf("%d objects, errors %v", len(objects), errs)
	}
	spec, _ := objects[0].Content["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	container, _ := containers[0].(map[string]any)
	if container["image"] != "registry.example.com/m:2" {
		t.Errorf("the image is %v", container["image"])
	}
}

package copies

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
)

const mib = 1 << 20

// layer is a layer of that content, of a mebibyte.
func layer(content string) Layer { return sized(content, mib) }

func sized(content string, size int64) Layer {
	return Layer{Digest: digest("packed " + content), DiffID: digest(content), Size: size}
}

func digest(of string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(of))) }

// runnable is an image that names a command, data one that names none.
func runnable(name string, layers ...Layer) Manifest {
	return Manifest{Digest: digest("manifest " + name), Config: digest("config " + name), Layers: layers}
}

func data(name string, layers ...Layer) Manifest {
	m := runnable(name, layers...)
	m.Data = true
	return m
}

// repacked is the image with each layer compressed anew.
func repacked(m Manifest) Manifest {
	m.Digest = digest("repacked " + m.Digest)
	m.Layers = slices.Clone(m.Layers)
	for i := range m.Layers {
		m.Layers[i].Digest = digest("repacked " + m.Layers[i].DiffID)
	}
	return m
}

// unread is what is known of an image whose configuration could not be read.
func unread(m Manifest) Manifest {
	m.Config, m.Data = "", false
	m.Layers = slices.Clone(m.Layers)
	for i := range m.Layers {
		m.Layers[i].DiffID = ""
	}
	return m
}

// single is an image without an index.
func single(m Manifest) Image {
	return Image{Reference: "registry.example.com/models/chat@" + m.Digest, Digest: m.Digest, Manifests: []Manifest{m}}
}

func vouched(i Image) Image {
	i.Vouched = true
	return i
}

func TestMatch(t *testing.T) {
	var (
		debian, cuda, python = layer("debian"), layer("cuda"), layer("python")
		weights, server, app = layer("weights"), layer("server"), layer("app")
		empty                = sized("", 32)
		entrypoint           = sized("entrypoint.sh", 900)
		model                = runnable("model", debian, cuda, weights)
		modelARM             = runnable("model arm64", layer("debian arm64"), weights)
		pureWeights          = data("weights", weights)
		runtime              = runnable("runtime", debian, cuda, python)
	)
	index := Image{Reference: "registry.example.com/models/chat:v1", Digest: digest("index"),
		Platforms: []string{model.Digest, modelARM.Digest, digest("s390x")}, Manifests: []Manifest{model, modelARM}}

	tests := map[string]struct {
		licensed []Image
		digest   string
		running  []Manifest
		want     How
	}{
		"the index itself":                          {licensed: []Image{index}, digest: index.Digest, want: SameDigest},
		"the manifest of a platform":                {licensed: []Image{index}, digest: modelARM.Digest, want: SameDigest},
		"a platform whose manifest was not read":    {licensed: []Image{index}, digest: digest("s390x"), want: SameDigest},
		"the configuration, as an imported image":   {licensed: []Image{index}, digest: model.Config, want: SameDigest},
		"another index around a licensed manifest":  {licensed: []Image{index}, digest: digest("theirs"), running: []Manifest{model}, want: SameDigest},
		"compressed anew":                           {licensed: []Image{index}, digest: repacked(model).Digest, running: []Manifest{repacked(model)}, want: SameDigest},
		"compressed anew and something on top":      {licensed: []Image{index}, running: []Manifest{repacked(runnable("x", debian, cuda, weights, app))}, want: BuiltFrom},
		"built from it":                             {licensed: []Image{index}, running: []Manifest{runnable("x", debian, cuda, weights, app)}, want: BuiltFrom},
		"built from it for one platform":            {licensed: []Image{index}, running: []Manifest{runnable("x", app), runnable("y", layer("debian arm64"), weights, app)}, want: BuiltFrom},
		"built from it, and the same for another":   {licensed: []Image{index}, running: []Manifest{runnable("x", debian, cuda, weights, app), modelARM}, want: SameDigest},
		"the same layers under another command":     {licensed: []Image{index}, running: []Manifest{runnable("x", debian, cuda, weights)}, want: BuiltFrom},
		"built from it, configurations unreadable":  {licensed: []Image{single(unread(model))}, running: []Manifest{unread(runnable("x", debian, cuda, weights, app))}, want: BuiltFrom},
		"built from weights alone":                  {licensed: []Image{single(pureWeights)}, running: []Manifest{runnable("x", weights, app)}, want: BuiltFrom},
		"weights alone under another name":          {licensed: []Image{single(pureWeights), single(data("both", weights, server))}, digest: pureWeights.Digest, want: SameDigest},
		"one layer that runs, under another name":   {licensed: []Image{single(runnable("one", weights))}, digest: digest("manifest one"), want: SameDigest},
		"built from one layer that somebody named":  {licensed: []Image{vouched(single(runnable("one", weights)))}, running: []Manifest{runnable("x", weights, app)}, want: BuiltFrom},
		"named by digest, the registry never read":  {licensed: []Image{{Reference: "r", Digest: digest("named"), Vouched: true}}, digest: digest("named"), want: SameDigest},
		"named by digest, base of a licensed image": {licensed: []Image{vouched(single(model)), single(runnable("x", debian, cuda, weights, server))}, running: []Manifest{runnable("y", debian, cuda, weights, app)}, want: BuiltFrom},
		"a small layer differs between tags":        {licensed: []Image{single(model), single(runnable("x", debian, cuda, weights, entrypoint))}, running: []Manifest{runnable("y", debian, cuda, weights, app)}, want: BuiltFrom},
		"an empty layer on the way":                 {licensed: []Image{single(runnable("x", debian, empty, weights))}, running: []Manifest{runnable("y", debian, empty, weights, app)}, want: BuiltFrom},

		// Whoever is innocent.
		"nothing in common":                                 {licensed: []Image{index}, digest: digest("x"), running: []Manifest{runnable("x", layer("alpine"), app)}},
		"the same public base":                              {licensed: []Image{index}, running: []Manifest{runnable("x", debian, app)}},
		"the same public base as a named image":             {licensed: []Image{vouched(single(model))}, running: []Manifest{runnable("x", debian, app), runnable("y", debian, cuda, app)}},
		"the same public base of two layers":                {licensed: []Image{index}, running: []Manifest{runnable("x", debian, cuda, app)}},
		"the public base itself":                            {licensed: []Image{index}, digest: digest("debian"), running: []Manifest{runnable("debian", debian)}},
		"a base image in the licensed repository":           {licensed: []Image{single(runnable("debian", debian))}, running: []Manifest{runnable("x", debian, app)}},
		"the same with a small layer on top":                {licensed: []Image{single(runnable("debian", debian, entrypoint))}, running: []Manifest{runnable("x", debian, entrypoint, app)}},
		"the same, its configuration unreadable":            {licensed: []Image{single(unread(data("debian", debian)))}, running: []Manifest{runnable("x", debian, app)}},
		"a runtime in the licensed repository":              {licensed: []Image{single(runtime), single(runnable("x", debian, cuda, python, weights))}, running: []Manifest{runnable("y", debian, cuda, python, app)}},
		"that runtime itself":                               {licensed: []Image{single(runtime), single(runnable("x", debian, cuda, python, weights))}, digest: runtime.Digest, running: []Manifest{runtime}},
		"a base without a command, beside the model":        {licensed: []Image{single(data("static", debian)), single(runnable("x", debian, weights))}, running: []Manifest{runnable("y", debian, app)}},
		"the same, the other order":                         {licensed: []Image{single(runnable("x", debian, weights)), single(data("static", debian))}, running: []Manifest{runnable("y", debian, app)}},
		"a licensed image without layers":                   {licensed: []Image{single(data("scratch"))}, digest: digest("x"), running: []Manifest{runnable("x", app), runnable("y")}},
		"the licensed image without layers itself":          {licensed: []Image{single(data("scratch"))}, digest: digest("manifest scratch")},
		"a licensed image of empty layers":                  {licensed: []Image{single(data("empty", empty, empty))}, digest: digest("manifest empty"), running: []Manifest{runnable("x", empty, empty, app)}},
		"a small layer that anybody may have":               {licensed: []Image{single(data("small", entrypoint))}, running: []Manifest{runnable("x", entrypoint, app)}},
		"the same layers in another order":                  {licensed: []Image{index}, running: []Manifest{runnable("x", cuda, debian, weights)}},
		"the weights on another base, which is a limit":     {licensed: []Image{index}, running: []Manifest{runnable("x", layer("alpine"), weights)}},
		"nothing known of the running image":                {licensed: []Image{index}},
		"no digest, and an image whose digest is not known": {licensed: []Image{{Reference: "r", Vouched: true}}, running: []Manifest{{}}},
		"a licensed image that could not be read":           {licensed: []Image{{Reference: "r", Digest: digest("tag")}}, digest: digest("tag")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var x Index
			x.Set("acme", tc.licensed)
			got := x.Match(tc.digest, tc.running...)
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("accused: %+v", got)
			case tc.want != "" && (len(got) != 1 || got[0].License != "acme" || got[0].How != tc.want || got[0].Image == ""):
				t.Errorf("got %+v, want one match %s", got, tc.want)
			}
		})
	}
}

func TestMatchNamesEachLicenceOnce(t *testing.T) {
	var x Index
	weights := data("weights", layer("weights"))
	other := data("other", layer("weights"), layer("tokenizer"))
	x.Set("b", []Image{vouched(single(weights)), single(other)})
	x.Set("a", []Image{vouched(single(weights))})
	got := x.Match(other.Digest, other)
	want := []Match{
		{License: "a", Image: single(weights).Reference, How: BuiltFrom},
		{License: "b", Image: single(other).Reference, How: SameDigest},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if owners := x.Owners(weights.Digest); !slices.Equal(owners, []string{"a", "b"}) {
		t.Errorf("owners %v", owners)
	}
}

func TestSetReplacesAndForgets(t *testing.T) {
	var x Index
	var told []string
	x.Subscribe(func(license string) { told = append(told, license) })
	first, second := data("first", layer("base"), layer("one")), data("second", layer("base"), layer("two"))
	x.Set("acme", []Image{single(first), single(second)})
	x.Set("beta", []Image{single(first)})
	x.Set("acme", []Image{single(second)})
	if got := x.Match(first.Digest); len(got) != 1 || got[0].License != "beta" {
		t.Errorf("after acme gave it up, %+v", got)
	}
	x.Set("beta", nil)
	x.Set("acme", nil)
	x.Set("never", nil)
	if len(x.licenses) != 0 || len(x.names) != 0 || len(x.chains) != 0 {
		t.Errorf("%d licences, %d names and %d chains are left of nothing", len(x.licenses), len(x.names), len(x.chains))
	}
	if want := []string{"acme", "beta", "acme", "beta", "acme"}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

func TestTooManyLayersAreNotFollowed(t *testing.T) {
	many := make([]Layer, maxLayers+1)
	for i := range many {
		many[i] = layer(fmt.Sprint(i))
	}
	if begins := beginsOf(&Manifest{Layers: many}); begins != nil {
		t.Error("an image with more layers than any runtime takes is followed")
	}
}

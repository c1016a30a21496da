package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/registry"
)

// fakeRegistry has tags and digests by repository.
type fakeRegistry struct {
	tags   map[string]map[string]string // repository, tag, digest
	listed map[string][]string          // repository, digests
	away   map[string]error             // repository
	broken map[string]error             // repository:tag
	asked  int
}

func (f *fakeRegistry) Tags(_ context.Context, _ *registry.Access, repository string) (registry.Tags, error) {
	if err := f.away[repository]; err != nil {
		return registry.Tags{}, fmt.Errorf("tags of %s: %w", repository, err)
	}
	if f.tags[repository] == nil {
		return registry.Tags{}, fmt.Errorf("tags of %s: %w", repository, registry.ErrNotFound)
	}
	var names []string
	for tag := range f.tags[repository] {
		names = append(names, tag)
	}
	slices.Sort(names)
	return registry.Tags{Names: names}, nil
}

func (f *fakeRegistry) Resolve(_ context.Context, _ *registry.Access, repository, tag string) (registry.Image, error) {
	f.asked++
	if err := f.broken[repository+":"+tag]; err != nil {
		return registry.Image{}, fmt.Errorf("%s:%s: %w", repository, tag, err)
	}
	digest := f.tags[repository][tag]
	return registry.Image{Digest: digest, Manifests: []copies.Manifest{{Digest: digest}}}, nil
}

func (f *fakeRegistry) Read(_ context.Context, _ *registry.Access, repository, digest string) (registry.Image, error) {
	f.asked++
	if err := f.away[repository]; err != nil {
		return registry.Image{}, fmt.Errorf("%s@%s: %w", repository, digest, err)
	}
	if !slices.Contains(f.listed[repository], digest) {
		return registry.Image{}, fmt.Errorf("%s@%s: %w", repository, digest, registry.ErrNotFound)
	}
	return registry.Image{Digest: digest, Platforms: []string{"sha256:platform"}}, nil
}

const chat, mirror = "registry.example.com/models/chat", "mirror.example.com/models/chat"

func licenseOf(images ...v1alpha1.LicensedImage) *v1alpha1.ModelLicense {
	license := &v1alpha1.ModelLicense{}
	license.Name = "acme"
	license.Spec.Images = images
	return license
}

func entry(repository, tag, digest string) v1alpha1.ResolvedImage {
	return v1alpha1.ResolvedImage{Repository: repository, Tag: tag, Digest: digest}
}

func TestResolve(t *testing.T) {
	known := func(entries ...v1alpha1.ResolvedImage) map[resolvedKey]resolved {
		all := map[resolvedKey]resolved{}
		for _, e := range entries {
			all[keyOf(&e)] = resolved{entry: e}
		}
		return all
	}
	tests := map[string]struct {
		images   []v1alpha1.LicensedImage
		registry fakeRegistry
		before   map[resolvedKey]resolved
		want     string // of entries
		reason   v1alpha1.Reason
		licensed string // references by which copies are recognised
	}{
		"tags": {
			images:   []v1alpha1.LicensedImage{{Repository: chat}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one", "v2": "two"}}},
			want:     chat + ":v1@one " + chat + ":v2@two", reason: v1alpha1.ReasonImagesResolved,
			licensed: chat + ":v1@one " + chat + ":v2@two",
		},
		"patterns alone": {
			images: []v1alpha1.LicensedImage{{Repository: "registry.example.com/models/**"}},
			reason: v1alpha1.ReasonNothingToResolve,
		},
		"a pattern beside": {
			images:   []v1alpha1.LicensedImage{{Repository: "registry.example.com/*/chat"}, {Repository: chat}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one"}}},
			want:     chat + ":v1@one", reason: v1alpha1.ReasonImagesResolved, licensed: chat + ":v1@one",
		},
		"Docker Hub in short": {
			images:   []v1alpha1.LicensedImage{{Repository: "docker.io/chat"}},
			registry: fakeRegistry{tags: map[string]map[string]string{"docker.io/library/chat": {"v1": "one"}}},
			want:     "docker.io/library/chat:v1@one", reason: v1alpha1.ReasonImagesResolved, licensed: "docker.io/library/chat:v1@one",
		},
		"listed digests": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Digests: []string{"two", "three"}}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one", "v2": "two"}}, listed: map[string][]string{chat: {"two", "three"}}},
			want:     chat + "@three " + chat + "@two " + chat + ":v1@one " + chat + ":v2@two", reason: v1alpha1.ReasonImagesResolved,
			licensed: chat + "@three " + chat + "@two " + chat + ":v2@two",
		},
		"a listed digest that is not there": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Digests: []string{"gone"}}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one"}}},
			want:     chat + ":v1@one", reason: v1alpha1.ReasonImageNotFound,
			licensed: chat + "@gone",
		},
		"a listed digest that the registry does not show any more": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Digests: []string{"gone"}}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one"}}},
			before:   known(entry(chat, "", "gone")),
			want:     chat + "@gone " + chat + ":v1@one", reason: v1alpha1.ReasonImageNotFound,
			licensed: chat + "@gone",
		},
		"listed digests of a pattern": {
			images: []v1alpha1.LicensedImage{{Repository: "registry.example.com/models/*", Digests: []string{"one"}}},
			reason: v1alpha1.ReasonNothingToResolve, licensed: "registry.example.com/models/*@one",
		},
		"listed digests in a repository without tags": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Digests: []string{"one"}}},
			registry: fakeRegistry{listed: map[string][]string{chat: {"one"}}},
			want:     chat + "@one", reason: v1alpha1.ReasonImagesResolved, licensed: chat + "@one",
		},
		"no such repository": {
			images: []v1alpha1.LicensedImage{{Repository: chat}},
			before: known(entry(chat, "v1", "one")),
			reason: v1alpha1.ReasonImageNotFound,
		},
		"the registry is away": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Digests: []string{"two"}}},
			registry: fakeRegistry{away: map[string]error{chat: registry.ErrUnreachable}},
			before:   known(entry(chat, "v1", "one"), entry(chat, "", "two"), entry("registry.example.com/other", "v1", "x")),
			want:     chat + "@two " + chat + ":v1@one", reason: v1alpha1.ReasonRegistryUnreachable, licensed: chat + "@two",
		},
		"denied": {
			images:   []v1alpha1.LicensedImage{{Repository: chat}},
			registry: fakeRegistry{away: map[string]error{chat: registry.ErrDenied}},
			before:   known(entry(chat, "v1", "one")),
			want:     chat + ":v1@one", reason: v1alpha1.ReasonRegistryDenied, licensed: chat + ":v1@one",
		},
		"the mirror answers": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Mirrors: []string{"mirror.example.com/**", mirror}}},
			registry: fakeRegistry{away: map[string]error{chat: registry.ErrUnreachable}, tags: map[string]map[string]string{mirror: {"v1": "one"}}},
			want:     chat + ":v1@one", reason: v1alpha1.ReasonImagesResolved, licensed: chat + ":v1@one",
		},
		"the mirror is not asked without need": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Mirrors: []string{mirror}}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one"}, mirror: {"v1": "other", "v2": "other"}}},
			want:     chat + ":v1@one", reason: v1alpha1.ReasonImagesResolved, licensed: chat + ":v1@one",
		},
		"a digest that the mirror alone has": {
			images:   []v1alpha1.LicensedImage{{Repository: chat, Mirrors: []string{mirror}, Digests: []string{"one"}}},
			registry: fakeRegistry{listed: map[string][]string{mirror: {"one"}}},
			want:     chat + "@one", reason: v1alpha1.ReasonImagesResolved, licensed: chat + "@one",
		},
		"one tag is broken": {
			images:   []v1alpha1.LicensedImage{{Repository: chat}},
			registry: fakeRegistry{tags: map[string]map[string]string{chat: {"v1": "one", "v2": "two", "v3": "three"}}, broken: map[string]error{chat + ":v2": registry.ErrUnreachable, chat + ":v3": registry.ErrNotFound}},
			before:   known(entry(chat, "v2", "before"), entry(chat, "v3", "before"), entry(chat, "v4", "gone")),
			want:     chat + ":v1@one " + chat + ":v2@before", reason: v1alpha1.ReasonRegistryUnreachable,
			licensed: chat + ":v1@one " + chat + ":v2@before",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			license := licenseOf(tc.images...)
			sources := imageSources(&license.Spec)
			asked := resolver{registry: &tc.registry, before: tc.before}
			found := asked.resolve(t.Context(), sources)
			status := imagesStatus(license, sources, &found)

			references := []string{}
			for _, e := range status.Images {
				references = append(references, referenceOf(&e))
			}
			if got := strings.Join(references, " "); got != tc.want {
				t.Errorf("entries\n%s, want\n%s", got, tc.want)
			}
			references = nil
			for _, i := range found.licensed(&license.Spec, sources) {
				references = append(references, i.Reference)
				if vouched := slices.ContainsFunc(tc.images, func(l v1alpha1.LicensedImage) bool { return slices.Contains(l.Digests, i.Digest) }); i.Vouched != vouched {
					t.Errorf("%s is vouched for: %t", i.Reference, i.Vouched)
				}
			}
			if got := strings.Join(references, " "); got != tc.licensed {
				t.Errorf("licensed\n%s, want\n%s", got, tc.licensed)
			}
			condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionImagesResolved)
			ok := tc.reason == v1alpha1.ReasonImagesResolved || tc.reason == v1alpha1.ReasonNothingToResolve
			if condition.Reason != string(tc.reason) || (condition.Status == "True") != ok || condition.Message == "" {
				t.Errorf("condition %+v, want %s", condition, tc.reason)
			}
		})
	}
}

func TestResolveKeepsToTheRoomThereIs(t *testing.T) {
	tags := map[string]string{}
	for i := range maxResolvedImages {
		tags[fmt.Sprintf("v%03d", i)] = "digest"
	}
	other := "registry.example.com/models/other"
	fake := &fakeRegistry{tags: map[string]map[string]string{chat: tags, other: tags}, listed: map[string][]string{chat: {"one", "two"}}}
	license := licenseOf(v1alpha1.LicensedImage{Repository: chat, Digests: []string{"one", "two"}}, v1alpha1.LicensedImage{Repository: other})
	sources := imageSources(&license.Spec)
	asked := resolver{registry: fake}
	found := asked.resolve(t.Context(), sources)
	counts := map[string]int{}
	for _, e := range found.entries() {
		counts[e.Repository]++
	}
	if counts[chat] != 2+63 || counts[other] != 63 || found.cut != 2*maxResolvedImages+2-maxResolvedImages || fake.asked != maxResolvedImages {
		t.Errorf("%v, %d cut, %d asked for", counts, found.cut, fake.asked)
	}
	if status := imagesStatus(license, sources, &found); !strings.Contains(status.Conditions[0].Message, "130 more are not") {
		t.Errorf("condition %+v", status.Conditions[0])
	}
}

func TestMoved(t *testing.T) {
	before := []v1alpha1.ResolvedImage{entry(chat, "v1", "one"), entry(chat, "v2", "two"), entry(chat, "", "x"), entry(chat, "gone", "z")}
	after := []v1alpha1.ResolvedImage{entry(chat, "v1", "other"), entry(chat, "v2", "two"), entry(chat, "", "y"), entry(chat, "new", "z")}
	got := moved(before, after)
	if len(got) != 1 || !strings.Contains(got[0], chat+":v1 stands for other now, for one before") {
		t.Errorf("moved: %q", got)
	}
}

func TestImagesReason(t *testing.T) {
	for err, want := range map[error]v1alpha1.Reason{
		registry.ErrDenied: v1alpha1.ReasonRegistryDenied, registry.ErrNotFound: v1alpha1.ReasonImageNotFound,
		registry.ErrUnreachable: v1alpha1.ReasonRegistryUnreachable, errors.New("other"): v1alpha1.ReasonRegistryUnreachable,
		&registry.BackoffError{Cause: errors.New("busy")}: v1alpha1.ReasonRegistryUnreachable,
	} {
		if got := imagesReason(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestRegistryHosts(t *testing.T) {
	spec := licenseOf(
		v1alpha1.LicensedImage{Repository: "registry.example.com/models/**", Mirrors: []string{"mirror.example.com:5000/x", "docker.io/acme/*"}},
		v1alpha1.LicensedImage{Repository: "index.docker.io/acme/chat"}, v1alpha1.LicensedImage{Repository: "nonsense"},
	).Spec
	want := []string{"docker.io", "mirror.example.com:5000", "registry.example.com"}
	if got := registryHosts(&spec); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

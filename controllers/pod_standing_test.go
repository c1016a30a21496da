package controllers

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

const (
	chatImage  = "registry.example.com/models/chat:2.1"
	otherImage = "registry.example.com/models/other:1"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world is licences and grants that a pod is decided by.
type world struct {
	licenses []*v1alpha1.ModelLicense
	grants   []*v1alpha1.ModelGrant
}

func (w world) snapshot(t testing.TB) *entitlement.Snapshot {
	t.Helper()
	s, err := entitlement.New([]string{"registry.example.com/governed/**"})
	if err != nil {
		t.Fatal(err)
	}
	changes := entitlement.Changes{Licenses: map[string]*v1alpha1.ModelLicense{}, Grants: map[entitlement.GrantKey]*v1alpha1.ModelGrant{}}
	for _, l := range w.licenses {
		changes.Licenses[l.Name] = l
	}
	for _, g := range w.grants {
		changes.Grants[entitlement.GrantKey{Namespace: g.Namespace, Name: g.Name}] = g
	}
	return s.Apply(changes)
}

func chatLicense() *v1alpha1.ModelLicense {
	l := builders.License("chat").Repository("registry.example.com/models/chat").Obj()
	l.UID, l.Generation, l.CreationTimestamp = "l-chat", 1, metav1.NewTime(noon.Add(-time.Hour))
	return l
}

func otherLicense() *v1alpha1.ModelLicense {
	l := builders.License("other").Repository("registry.example.com/models/other").Obj()
	l.UID, l.Generation, l.CreationTimestamp = "l-other", 1, metav1.NewTime(noon.Add(-time.Hour))
	return l
}

func chatGrant() *v1alpha1.ModelGrant {
	return builders.Grant("ml", "chat", "chat").ServiceAccount("llm").Obj()
}

func storedPod(images ...string) *corev1.Pod {
	b := builders.Pod("ml", "llm-0").ServiceAccount("llm")
	for i, image := range images {
		b.Container(string(rune('a'+i)), image)
	}
	pod := b.Obj()
	pod.UID, pod.CreationTimestamp = "p-uid", metav1.NewTime(noon)
	return pod
}

// standIn decides on a pod and compares it with its condition.
func (w world) standIn(t *testing.T, pod *corev1.Pod) standing {
	t.Helper()
	return standingOf(pod, entitlement.DecidePod(entitlement.Pod{Namespace: pod.Namespace, Labels: pod.Labels, Spec: &pod.Spec}, w.snapshot(t), noon))
}

// brought gives the pod the condition that it is to have, as if all was logged.
func (w world) brought(t *testing.T, pod *corev1.Pod) (admitted, found int) {
	t.Helper()
	s := w.standIn(t, pod)
	a, f := s.unlogged()
	if !s.settled() {
		setPodCondition(pod, v1alpha1.PodConditionLicensed, s.desired(noon))
	}
	if again := w.standIn(t, pod); !again.settled() {
		t.Errorf("the condition does not settle it: %+v", conditionOf(pod, v1alpha1.PodConditionLicensed))
	}
	return len(a), len(f)
}

// TestStanding takes a pod through changes of what is licensed, and sees what is logged at each.
func TestStanding(t *testing.T) {
	granted := world{[]*v1alpha1.ModelLicense{chatLicense()}, []*v1alpha1.ModelGrant{chatGrant()}}
	ungranted := world{[]*v1alpha1.ModelLicense{chatLicense()}, nil}
	both := world{[]*v1alpha1.ModelLicense{chatLicense(), otherLicense()}, []*v1alpha1.ModelGrant{chatGrant()}}
	moved := chatGrant()
	moved.Spec.Subjects[0].Name = "else"
	elsewhere := world{[]*v1alpha1.ModelLicense{chatLicense()}, []*v1alpha1.ModelGrant{moved}}
	type step struct {
		world           world
		admitted, found int
		status          corev1.ConditionStatus
		reason          v1alpha1.Reason
	}
	const (
		yes = corev1.ConditionTrue
		no  = corev1.ConditionFalse
	)
	for name, test := range map[string]struct {
		images []string
		steps  []step
	}{
		"not governed":                        {[]string{"docker.io/library/busybox"}, []step{{granted, 0, 0, "", ""}}},
		"admitted":                            {[]string{chatImage}, []step{{granted, 1, 0, yes, v1alpha1.ReasonEntitled}, {granted, 0, 0, yes, v1alpha1.ReasonEntitled}}},
		"found":                               {[]string{chatImage}, []step{{ungranted, 0, 1, no, v1alpha1.ReasonNoGrant}, {ungranted, 0, 0, no, v1alpha1.ReasonNoGrant}}},
		"found without a licence":             {[]string{"registry.example.com/governed/x"}, []step{{world{}, 0, 1, no, v1alpha1.ReasonUnlicensed}}},
		"found by an image ID":                {[]string{"sha256:0123"}, []step{{world{}, 0, 1, no, v1alpha1.ReasonImageID}}},
		"found, then granted":                 {[]string{chatImage}, []step{{ungranted, 0, 1, no, v1alpha1.ReasonNoGrant}, {granted, 1, 0, yes, v1alpha1.ReasonEntitled}}},
		"found, then for another reason":      {[]string{chatImage}, []step{{ungranted, 0, 1, no, v1alpha1.ReasonNoGrant}, {elsewhere, 0, 0, no, v1alpha1.ReasonSubjectNotGranted}}},
		"found, then the licence is gone":     {[]string{chatImage}, []step{{ungranted, 0, 1, no, v1alpha1.ReasonNoGrant}, {world{}, 0, 0, "", ""}}},
		"admitted, then the grant is gone":    {[]string{chatImage}, []step{{granted, 1, 0, yes, v1alpha1.ReasonEntitled}, {ungranted, 0, 0, yes, v1alpha1.ReasonEntitled}}},
		"admitted, then the licence is gone":  {[]string{chatImage}, []step{{granted, 1, 0, yes, v1alpha1.ReasonEntitled}, {world{}, 0, 0, yes, v1alpha1.ReasonEntitled}}},
		"admitted, lost and granted again":    {[]string{chatImage}, []step{{granted, 1, 0, yes, v1alpha1.ReasonEntitled}, {ungranted, 0, 0, yes, v1alpha1.ReasonEntitled}, {granted, 0, 0, yes, v1alpha1.ReasonEntitled}}},
		"found, granted and lost":             {[]string{chatImage}, []step{{ungranted, 0, 1, no, v1alpha1.ReasonNoGrant}, {granted, 1, 0, yes, v1alpha1.ReasonEntitled}, {ungranted, 0, 0, yes, v1alpha1.ReasonEntitled}}},
		"half of it":                          {[]string{chatImage, otherImage}, []step{{both, 1, 1, no, v1alpha1.ReasonNoGrant}, {both, 0, 0, no, v1alpha1.ReasonNoGrant}, {granted, 0, 0, yes, v1alpha1.ReasonEntitled}}},
		"a licence that came after the pod":   {[]string{otherImage}, []step{{granted, 0, 0, "", ""}, {both, 0, 1, no, v1alpha1.ReasonNoGrant}}},
		"half lost, then another licence":     {[]string{chatImage, otherImage}, []step{{granted, 1, 0, yes, v1alpha1.ReasonEntitled}, {ungranted, 0, 0, yes, v1alpha1.ReasonEntitled}, {world{both.licenses, nil}, 0, 1, no, v1alpha1.ReasonNoGrant}, {ungranted, 0, 0, no, v1alpha1.ReasonNoGrant}}},
		"the same image twice is found once":  {[]string{chatImage, chatImage}, []step{{ungranted, 0, 1, no, v1alpha1.ReasonNoGrant}}},
		"two licences are two things to find": {[]string{chatImage, otherImage}, []step{{world{both.licenses, nil}, 0, 2, no, v1alpha1.ReasonNoGrant}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storedPod(test.images...)
			for i, step := range test.steps {
				admitted, found := step.world.brought(t, pod)
				if admitted != step.admitted || found != step.found {
					t.Errorf("step %d logs %d admissions and %d finds, want %d and %d", i, admitted, found, step.admitted, step.found)
				}
				c := conditionOf(pod, v1alpha1.PodConditionLicensed)
				if step.status == "" {
					if c != nil {
						t.Errorf("step %d has condition %+v", i, c)
					}
				} else if c == nil || c.Status != step.status || c.Reason != string(step.reason) {
					t.Errorf("step %d has condition %+v, want %s %s", i, c, step.status, step.reason)
				}
			}
		})
	}
}

// TestStandingAfterTheEnd: nothing is held against a pod that has ended by a licence that came, or was changed, later.
func TestStandingAfterTheEnd(t *testing.T) {
	later, changed := chatLicense(), chatLicense()
	later.CreationTimestamp, changed.Generation = metav1.NewTime(noon.Add(time.Second)), 2
	for name, test := range map[string]struct {
		phase   corev1.PodPhase
		license *v1alpha1.ModelLicense
		found   int
	}{
		"running":                     {corev1.PodRunning, later, 1},
		"ended under the licence":     {corev1.PodSucceeded, chatLicense(), 1},
		"failed under the licence":    {corev1.PodFailed, chatLicense(), 1},
		"ended before the licence":    {corev1.PodSucceeded, later, 0},
		"ended before it was changed": {corev1.PodSucceeded, changed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storedPod(chatImage)
			pod.Status.Phase = test.phase
			if _, found := (world{[]*v1alpha1.ModelLicense{test.license}, nil}).brought(t, pod); found != test.found {
				t.Errorf("found %d, want %d", found, test.found)
			}
		})
	}
}

// TestFinding: the entry and the note say what a denial would.
func TestFinding(t *testing.T) {
	pod := storedPod(chatImage)
	pod.Spec.NodeName = "node-a"
	s := world{[]*v1alpha1.ModelLicense{chatLicense()}, nil}.standIn(t, pod)
	if len(s.found) != 1 {
		t.Fatalf("found %d", len(s.found))
	}
	e := s.found[0].entry
	if e.Namespace != "ml" || e.Pod.UID != "p-uid" || e.Node != "node-a" || e.ServiceAccount != "llm" || e.License.UID != "l-chat" ||
		e.Reason != v1alpha1.ReasonNoGrant || !slices.Equal(e.Images, []string{chatImage}) || !strings.HasPrefix(e.ID, "Found/p-uid/") {
		t.Errorf("entry %+v", e)
	}
	for _, part := range []string{"[NoGrant]: image ", "but namespace ml has no ModelGrant of it; ask someone who may"} {
		if !strings.Contains(s.found[0].note, part) {
			t.Errorf("note %q lacks %q", s.found[0].note, part)
		}
	}
	if c := s.desired(noon); !strings.HasPrefix(c.Message, "not entitled [NoGrant]: ") || !strings.HasSuffix(c.Message, " ["+s.found[0].mark+"]") {
		t.Errorf("condition %q", c.Message)
	}
}

// TestStandingWaits: a pod whose licence begins later is looked at again then.
func TestStandingWaits(t *testing.T) {
	l := chatLicense()
	l.Spec.Terms.NotBefore = &metav1.Time{Time: noon.Add(time.Hour)}
	s := world{[]*v1alpha1.ModelLicense{l}, []*v1alpha1.ModelGrant{chatGrant()}}.standIn(t, storedPod(chatImage))
	if !s.begins(noon).Equal(noon.Add(time.Hour)) {
		t.Errorf("begins %v", s.begins(noon))
	}
}

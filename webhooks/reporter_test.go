package webhooks

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

type fakeLog []audit.Entry

func (l *fakeLog) Offer(e audit.Entry) bool {
	*l = append(*l, e)
	return true
}

// fullLog only counts.
type fullLog struct{}

func (fullLog) Offer(audit.Entry) bool { return false }

type fakeEvents []corev1.ObjectReference

func (r *fakeEvents) Eventf(regarding, _ runtime.Object, eventtype, reason, action, note string, args ...any) {
	if eventtype != "Warning" || reason != "Denied" || action != "Admit" || note != "%s" || len(args) != 1 || len(args[0].(string)) > maxNote {
		panic("an Event that the API server would not take, or a note that is a format")
	}
	*r = append(*r, *regarding.(*corev1.ObjectReference))
}

func TestReporter(t *testing.T) {
	license, grant := chat().Obj(), grantOf("acme-chat")
	license.UID, license.Generation, grant.UID = "l-uid", 3, "g-uid"
	base := Denial{
		Time: now, Namespace: "ml-prod", GenerateName: "server-", ServiceAccount: "llm", User: "alice", Operation: "CREATE",
		Owner: &metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "server", UID: "o-uid"},
		Uses: []DeniedUse{
			{Field: "spec.containers[0].image", Image: chatImage, Reason: v1alpha1.ReasonSubjectNotGranted, Message: "m1", LicenseName: "acme-chat", License: license, Grant: grant},
			{Field: "spec.volumes[0]", Reason: v1alpha1.ReasonLicenseMissing, Message: "m2", LicenseName: "acme-none"},
		},
		Message: strings.Repeat("é", 1024),
	}
	with := func(change func(*Denial)) Denial { d := base; change(&d); return d }

	var log fakeLog
	var events fakeEvents
	NewReporter(&log, &events).Denied(base)
	want := fakeLog{
		{
			Type: audit.Denied, Time: now, Namespace: "ml-prod", Pod: audit.Object{Name: "server-"}, Owner: audit.Owner{Kind: "ReplicaSet", Name: "server"},
			ServiceAccount: "llm", License: audit.Object{Name: "acme-chat", UID: "l-uid", Generation: 3}, Grant: audit.Object{Name: "acme-chat-grant", UID: "g-uid"},
			Images: []string{chatImage}, Reason: v1alpha1.ReasonSubjectNotGranted, Message: "m1", Actor: "alice",
		},
		{
			Type: audit.Denied, Time: now, Namespace: "ml-prod", Pod: audit.Object{Name: "server-"}, Owner: audit.Owner{Kind: "ReplicaSet", Name: "server"},
			ServiceAccount: "llm", License: audit.Object{Name: "acme-none"}, Reason: v1alpha1.ReasonLicenseMissing, Message: "m2", Actor: "alice",
		},
	}
	if !reflect.DeepEqual(log, want) {
		t.Errorf("logged %+v, want %+v", log, want)
	}

	for name, test := range map[string]struct {
		denial Denial
		want   corev1.ObjectReference
	}{
		"the owner":   {base, corev1.ObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "ml-prod", Name: "server", UID: "o-uid"}},
		"no owner":    {with(func(d *Denial) { d.Owner = nil; d.PodName = "server" }), corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "ml-prod", Name: "server"}},
		"no name yet": {with(func(d *Denial) { d.Owner = nil }), corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "ml-prod", Name: "server-"}},
		"a static pod": {
			with(func(d *Denial) {
				d.Owner = &metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n"}
				d.PodName = "server"
			}),
			corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "ml-prod", Name: "server"},
		},
		"a pod that exists": {
			with(func(d *Denial) { d.PodName, d.PodUID, d.Operation = "server-abc", "p-uid", "UPDATE" }),
			corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "ml-prod", Name: "server-abc", UID: "p-uid"},
		},
	} {
		var events fakeEvents
		NewReporter(&fakeLog{}, &events).Denied(test.denial)
		if len(events) != 1 || events[0] != test.want {
			t.Errorf("%s: Event on %+v, want %+v", name, events, test.want)
		}
	}
}

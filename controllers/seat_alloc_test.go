package controllers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/test/builders"
)

// scene is a licence of one seat, its grant, and an allocator that knows every pod.
type scene struct {
	*SeatAllocator
	held    *bookedSeats
	license *v1alpha1.ModelLicense
	grant   *v1alpha1.ModelGrant
	pods    []*corev1.Pod
}

func newScene(t *testing.T, limit string) *scene {
	t.Helper()
	s := &scene{license: chatLicense(), grant: chatGrant()}
	s.grant.UID = "0b1c2d3e-0000-4000-8000-000000000001"
	s.license.Spec.Terms.Limits = builders.License("l").Limits("pods", limit).Obj().Spec.Terms.Limits
	s.held = newBookedSeats(s.license)
	s.SeatAllocator = allocatorOf(s.held)
	s.Rights = fixedRights{world{[]*v1alpha1.ModelLicense{s.license}, []*v1alpha1.ModelGrant{s.grant}}.snapshot(t)}
	s.Queue.filled()
	return s
}

func (s *scene) pod(n int, state queueState) *corev1.Pod {
	pod := builders.Pod("ml", fmt.Sprintf("llm-%d", n)).UID(fmt.Sprintf("0b1c2d3e-0000-4000-8000-0000000001%02d", n)).
		Created(noon.Add(time.Duration(n)*time.Second)).ServiceAccount("llm").Gate().Container("a", chatImage).Obj()
	s.pods = append(s.pods, pod)
	s.Queue.put(queuedAs(pod, state, []seatNeed{{license: s.license, grant: s.grant}}))
	return pod
}

// rounds runs the allocator once, and returns the pods that workers are to look at.
func (s *scene) rounds(t *testing.T) (urgent []string) {
	t.Helper()
	b := fake.NewClientBuilder()
	for _, pod := range s.pods {
		b.WithObjects(pod.DeepCopy())
	}
	s.Pods = b.Build()
	if _, err := s.round(t.Context(), func(pod types.NamespacedName, _ bool) { urgent = append(urgent, pod.Name) }); err != nil {
		t.Fatal(err)
	}
	return urgent
}

// TestAllocatorTakes: the first in the queue has the seat, by the version that was read before; the next is owed its place.
func TestAllocatorTakes(t *testing.T) {
	s := newScene(t, "1")
	first, second := s.pod(1, seatInQueue), s.pod(2, seatInQueue)
	if got := s.rounds(t); !slices.Equal(got, []string{"llm-1"}) {
		t.Errorf("started %v", got)
	}
	if _, ok := s.held.Ledger("chat").Holder(first.UID); !ok || s.held.Ledger("chat").Len() != 1 {
		t.Error("the first holds no seat, or others do")
	}
	p := s.Queue.byUID[first.UID]
	if p.state != seatTaking || p.allocation == nil || p.allocation.version == "" {
		t.Errorf("first: %+v", p)
	}
	if p := s.Queue.byUID[second.UID]; p.state != seatInQueue || p.due.reason != v1alpha1.ReasonWaitingForSeat || p.due.position != 1 {
		t.Errorf("second: %+v", p)
	}
}

// TestAllocatorAdoptsFirst: while a pod runs without its seat, nobody takes one.
func TestAllocatorAdoptsFirst(t *testing.T) {
	s := newScene(t, "2")
	runs := s.pod(1, seatHeld)
	s.pod(2, seatInQueue)
	if got := s.rounds(t); !slices.Equal(got, []string{"llm-1"}) || s.held.Ledger("chat") != nil {
		t.Errorf("looks at %v", got)
	}
	adopt := seats.Adopt{Pod: runs.UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: s.grant.UID}, Since: noon}
	if _, err := s.held.Do(t.Context(), "chat", adopt); err != nil {
		t.Fatal(err)
	}
	s.Queue.touch("chat")
	if got := s.rounds(t); !slices.Equal(got, []string{"llm-2"}) {
		t.Errorf("then looks at %v", got)
	}
}

// TestAllocatorWaitsToKnowAllPods: before every pod is known, it is not known who runs without a seat.
func TestAllocatorWaitsToKnowAllPods(t *testing.T) {
	s := newScene(t, "1")
	s.Queue.complete = false
	s.pod(1, seatInQueue)
	if got := s.rounds(t); len(got) > 0 {
		t.Errorf("started %v", got)
	}
}

// TestAllocatorResumes: a pod that has its seat goes on, but is read again; one whose seat is marked gives it back.
func TestAllocatorResumes(t *testing.T) {
	for name, marked := range map[string]bool{"held": false, "marked": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "1")
			pod := s.pod(1, seatInQueue)
			take := seats.Take{Pod: pod.UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: s.grant.UID}, Generation: 1, Since: noon}
			if _, err := s.held.Do(t.Context(), "chat", take); err != nil {
				t.Fatal(err)
			}
			if marked {
				if _, err := s.held.Do(t.Context(), "chat", seats.Expire{Pod: pod.UID, Until: noon.Add(time.Hour)}); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.rounds(t); !slices.Equal(got, []string{"llm-1"}) {
				t.Errorf("looks at %v", got)
			}
			p := s.Queue.byUID[pod.UID]
			if marked != p.partial || marked == (p.allocation != nil) || p.allocation != nil && p.allocation.version != "" {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestGroupsAreNotParted: a group whose pods do not say how many they are waits for those that come a moment later, and one
// whose pods need several licences is planned in all of them together.
func TestGroupsAreNotParted(t *testing.T) {
	other := chatLicense()
	other.Name, other.UID = "code", "0b1c2d3e-0000-4000-8000-000000000300"
	for name, test := range map[string]struct {
		size, older int
		lacks       bool
		want        []string
	}{
		"young, of unknown size":                    {older: 3, want: nil},
		"old, of unknown size":                      {older: 4, want: []string{"llm-1", "llm-2"}},
		"young, of known size":                      {size: 2, older: 3, want: []string{"llm-1", "llm-2"}},
		"of two licences, of which one is left out": {size: 2, older: 4, lacks: true, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "2")
			s.Clock = clocktesting.NewFakePassiveClock(noon.Add(time.Duration(test.older) * time.Second))
			for n := 1; n <= 2; n++ {
				pod := s.pod(n, seatInQueue)
				p := queuedAs(pod, seatInQueue, []seatNeed{{license: s.license, grant: s.grant}})
				if p.group, p.groupSize = "ml/g", test.size; test.lacks && n == 2 {
					p.needs = []seatNeed{{license: other, grant: s.grant}}
				}
				s.Queue.drop(p.name)
				s.Queue.put(p)
			}
			got := s.rounds(t)
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("started %v, want %v", got, test.want)
			}
		})
	}
	s := newScene(t, "2")
	for n, license := range map[int]*v1alpha1.ModelLicense{1: s.license, 2: other} {
		p := queuedAs(s.pod(n, seatInQueue), seatInQueue, []seatNeed{{license: license, grant: s.grant}})
		p.group = "ml/g"
		s.Queue.drop(p.name)
		s.Queue.put(p)
	}
	s.Queue.takeChanged()
	s.Queue.touch("chat")
	if got := s.Queue.takeChanged(); !slices.Equal(got, []string{"chat", "code"}) {
		t.Errorf("planned together: %v", got)
	}
}

// TestQueueKeepsState: what is told of a pod late changes nothing that was decided since.
func TestQueueKeepsState(t *testing.T) {
	s := newScene(t, "1")
	pod := s.pod(1, seatInQueue)
	s.rounds(t)
	needs := s.Queue.byUID[pod.UID].needs
	if p := s.Queue.put(queuedAs(pod, seatInQueue, needs)); p.state != seatTaking || p.allocation == nil {
		t.Errorf("seats are forgotten: %+v", p)
	}
	if p := s.Queue.put(queuedAs(pod, seatHeld, needs)); p.state != seatHeld || p.allocation != nil {
		t.Errorf("started: %+v", p)
	}
	if p := s.Queue.put(queuedAs(pod, seatInQueue, needs)); p.state != seatHeld {
		t.Errorf("a pod that has started waits again: %+v", p)
	}
	later := pod.DeepCopy()
	later.UID = "0b1c2d3e-0000-4000-8000-000000000199"
	if p := s.Queue.put(queuedAs(later, seatInQueue, needs)); p.state != seatInQueue || s.Queue.byUID[pod.UID] != nil {
		t.Errorf("a later pod of the name is taken for it: %+v", p)
	}
}

// TestQueueTells: each pod once for what is new to it, the first in the queue first, and nobody who has just come.
func TestQueueTells(t *testing.T) {
	s := newScene(t, "1")
	var uids []types.UID
	for n := range 3 {
		uids = append(uids, s.pod(n, seatInQueue).UID)
	}
	owe := func(position int, uid types.UID, message string) {
		s.Queue.owe(uid, verdict{reason: v1alpha1.ReasonWaitingForSeat, message: message, position: position}, noon)
	}
	told := func(n int, after time.Duration) string {
		var names []string
		for _, name := range s.Queue.untold(n, noon.Add(after)) {
			names = append(names, name.Name)
		}
		return fmt.Sprint(names)
	}
	owe(2, uids[0], "b")
	owe(1, uids[1], "a")
	owe(30, uids[2], "c")
	for i, step := range []struct {
		n     int
		after time.Duration
		want  string
	}{{9, 0, "[]"}, {1, tellAfter, "[llm-1]"}, {9, tellAfter, "[llm-0 llm-2]"}, {9, time.Hour, "[]"}} {
		if got := told(step.n, step.after); got != step.want {
			t.Errorf("step %d: told %s, want %s", i, got, step.want)
		}
	}
	owe(40, uids[2], "far behind still")
	owe(1, uids[0], "moved up")
	if got := told(9, time.Hour); got != "[llm-0]" {
		t.Errorf("told %s", got)
	}
}

// laggingView shows ledgers as they were, whatever is written.
type laggingView struct{ *bookedSeats }

func (laggingView) Ledger(string) *seats.Ledger { return nil }

func (laggingView) LicensesOf(types.UID) []string { return nil }

// forgetful remembers nothing that it wrote.
type forgetful struct{ *bookedSeats }

func (forgetful) Newest(string) *seats.Ledger { return nil }

// TestRoundsGoOnByWhatWasWritten: a round does not wait until the view shows the last one, and counts what that took.
func TestRoundsGoOnByWhatWasWritten(t *testing.T) {
	s := newScene(t, "2")
	s.Ledgers = laggingView{s.held}
	s.pod(1, seatInQueue)
	if got := s.rounds(t); !slices.Equal(got, []string{"llm-1"}) {
		t.Fatalf("the first round let %v go", got)
	}
	s.pod(2, seatInQueue)
	s.pod(3, seatInQueue)
	if got := s.rounds(t); !slices.Equal(got, []string{"llm-2"}) {
		t.Errorf("the second round let %v go, and there was one seat left", got)
	}
	if got := s.held.ledgers[s.license.Name].Len(); got != 2 {
		t.Errorf("%d seats are taken of 2", got)
	}

	s = newScene(t, "2")
	s.Ledgers, s.Book = laggingView{s.held}, forgetful{s.held}
	s.pod(1, seatInQueue)
	s.rounds(t)
	s.pod(2, seatInQueue)
	if got := s.rounds(t); len(got) > 0 {
		t.Errorf("%v went by a view that is known to lag", got)
	}
}

// TestLaggingViewsAreLookedAtAgain: a round that goes by what was written comes again by itself, since the view may already
// show that somebody else has edited it, and nothing else may ever change.
func TestLaggingViewsAreLookedAtAgain(t *testing.T) {
	s := newScene(t, "1")
	s.Ledgers = laggingView{s.held}
	s.pod(1, seatInQueue)
	s.rounds(t)
	s.Queue.put(queuedAs(s.pods[0], seatHeld, []seatNeed{{license: s.license, grant: s.grant}}))
	s.Queue.touch(s.license.Name)
	round := func() (looks, again []string) {
		t.Helper()
		again, err := s.round(t.Context(), func(pod types.NamespacedName, _ bool) { looks = append(looks, pod.Name) })
		if err != nil {
			t.Fatal(err)
		}
		return looks, again
	}
	if looks, again := round(); len(looks) > 0 || !slices.Equal(again, []string{s.license.Name}) {
		t.Errorf("looks at %v, and again at %v", looks, again)
	}
	s.Clock = clocktesting.NewFakePassiveClock(noon.Add(viewLag))
	s.Queue.touch(s.license.Name)
	if looks, _ := round(); !slices.Equal(looks, []string{"llm-1"}) {
		t.Errorf("looks at %v, when the view has had the time to show the seat", looks)
	}
}

// TestUnseenSeatsAreForgotten: a seat that was seen once, or could have been, is waited for no more, however many are taken
// after it: its pod may have ended between two looks.
func TestUnseenSeatsAreForgotten(t *testing.T) {
	s := newScene(t, "8")
	unseen := func(n int, after time.Duration) bool {
		pod := s.pod(n, seatInQueue)
		s.noteUnseen(&allocScene{now: noon.Add(after)}, []*taker{{queuedPod: queuedPod{uid: pod.UID, needs: []seatNeed{{license: s.license}}}, held: 1}})
		return !s.seen("chat", s.held.Ledger("chat"), noon.Add(after))
	}
	shows := func(n int) {
		take := seats.Take{Pod: s.pods[n-1].UID, Grant: seats.Grant{Namespace: "ml", Name: "chat", UID: s.grant.UID}, Generation: 1, Since: noon}
		if _, err := s.held.Do(t.Context(), "chat", take); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 5; n++ { // the first is never shown
		if !unseen(n, time.Duration(n)*time.Second) {
			t.Errorf("seat %d is taken for shown", n)
		}
	}
	if got := len(s.unseen["chat"]); got != 2 {
		t.Errorf("%d seats are waited for", got)
	}
	shows(4)
	shows(5)
	if !s.seen("chat", s.held.Ledger("chat"), noon.Add(5*time.Second)) || len(s.unseen) != 0 {
		t.Errorf("what is shown is waited for: %v", s.unseen)
	}
	if unseen(6, 6*time.Second); !s.seen("chat", s.held.Ledger("chat"), noon.Add(-time.Hour)) {
		t.Error("after the clock was set back, it is waited for an hour")
	}
}

// TestTurnsAreNoted: who took a seat has had its turn.
func TestTurnsAreNoted(t *testing.T) {
	s := newScene(t, "1")
	grant := seats.Grant{Namespace: s.grant.Namespace, Name: s.grant.Name, UID: s.grant.UID}
	if at := s.lastTurn("chat", grant); !at.IsZero() {
		t.Errorf("it had a turn at %v before any round", at)
	}
	s.pod(1, seatInQueue)
	s.rounds(t)
	if at := s.lastTurn("chat", grant); !at.Equal(noon) {
		t.Errorf("its last turn was at %v", at)
	}
	if at := s.lastTurn("code", grant); !at.IsZero() {
		t.Errorf("it had a turn in another licence at %v", at)
	}
}

// TestPassingVerdicts: a pod is not told who has the seats by a round in which others took them; and where it was, since seats
// change hands all the time, it is told again.
func TestPassingVerdicts(t *testing.T) {
	s := newScene(t, "1")
	s.pod(1, seatInQueue)
	second := s.pod(2, seatInQueue)
	s.rounds(t)
	due := func() verdict { return s.Queue.byUID[second.UID].due }
	if !due().passing {
		t.Errorf("it is to be told %+v", due())
	}
	if got := s.Queue.untold(9, noon.Add(tellAfter)); len(got) > 0 {
		t.Errorf("told by the first round: %v", got)
	}
	if got := s.Queue.untold(9, noon.Add(tellPassing)); len(got) != 1 {
		t.Errorf("never told: %v", got)
	}
	s.Queue.told(second.UID, due())
	s.Queue.touch(s.license.Name)
	s.rounds(t)
	if due().passing || due().message == "" {
		t.Errorf("it is to be told %+v", due())
	}
	if got := s.Queue.untold(9, noon.Add(tellAfter)); len(got) != 1 {
		t.Errorf("not told again: %v", got)
	}
}

package controllers

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

// attentionAfter are when the node of a pod is made to look, from when the loss was seen on. The first time is mostly
// enough; kubelet does not act on it while it is about another change of the pod.
var attentionAfter = []time.Duration{0, 2 * time.Second, 10 * time.Second, time.Minute}

// proceeding is what has been done about a pod that lost its entitlement, as far as it does not stand on the pod. One
// worker at a time has it.
type proceeding struct {
	uid types.UID
	// seen is when the loss was seen.
	seen time.Time
	// asked is how often the node was made to look, of attentionAfter.
	asked int
	// refused is since when evictions are refused, tried when the last was, tryAgain when the next is due;
	// unanswered counts the tries since that say nothing about it. Removed: the pod is on its way out, or gone.
	refused, tried, tryAgain time.Time
	unanswered               int
	removed                  bool
	// owed are entries of what has happened and could not be logged yet.
	owed []audit.Entry
}

// due is when the node is made to look again; zero where it is not.
func (p *proceeding) due() time.Time {
	if p.asked >= len(attentionAfter) {
		return time.Time{}
	}
	return p.seen.Add(attentionAfter[p.asked])
}

// isDue says whether the node is to be made to look now.
func (p *proceeding) isDue(now time.Time) bool {
	next := p.due()
	return !next.IsZero() && !now.Before(next)
}

// passed takes notice that the node was made to look where that was due. Where no key lies on a node, it never is.
func (p *proceeding) passed(now time.Time, onNode bool) {
	if !onNode {
		p.asked = len(attentionAfter)
	}
	for p.isDue(now) {
		p.asked++
	}
}

// wait is how long until something is due: the node's attention, or another try to evict where that is wanted. Zero: nothing
// is.
func (p *proceeding) wait(now time.Time, evicting bool) time.Duration {
	next := p.due()
	if evicting && !p.removed && !p.tryAgain.IsZero() && (next.IsZero() || p.tryAgain.Before(next)) {
		next = p.tryAgain
	}
	if next.IsZero() {
		return 0
	}
	return max(next.Sub(now), time.Millisecond)
}

// proceedings are those that go on, and who waits for keys to be wiped.
type proceedings struct {
	mu       sync.Mutex
	pods     map[PodRef]*proceeding
	licenses map[string]map[types.UID]waitingWipe
}

// waitingWipe is a pod of which a ledger is yet to say that its key was wiped.
type waitingWipe struct {
	pod  PodRef
	seen time.Time
	// surge: it was lost since a surge was over.
	surge bool
}

// of is the proceeding about a pod; a later pod of the same name has another.
func (p *proceedings) of(pod *corev1.Pod, now time.Time) *proceeding {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods == nil {
		p.pods, p.licenses = map[PodRef]*proceeding{}, map[string]map[types.UID]waitingWipe{}
	}
	name := client.ObjectKeyFromObject(pod)
	before := p.pods[name]
	if before != nil && before.uid == pod.UID {
		return before
	}
	begun := &proceeding{uid: pod.UID, seen: now}
	if before != nil {
		begun.owed = before.owed
	}
	p.pods[name] = begun
	return begun
}

// waits takes notice that keys of a pod are to be wiped.
func (p *proceedings) waits(pod *corev1.Pod, seen time.Time, lost []loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range lost {
		if p.licenses[l.name] == nil {
			p.licenses[l.name] = map[types.UID]waitingWipe{}
		}
		p.licenses[l.name][pod.UID] = waitingWipe{
			pod: client.ObjectKeyFromObject(pod), seen: seen, surge: l.reason == v1alpha1.ReasonSurgeEnded,
		}
	}
}

// wiped ends the wait for those of a licence's pods of which over says so, and returns them.
func (p *proceedings) wiped(license string, over func(types.UID) bool) []waitingWipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []waitingWipe
	for uid, w := range p.licenses[license] {
		if over(uid) {
			all = append(all, w)
			delete(p.licenses[license], uid)
		}
	}
	return all
}

// surged lists the pods of a licence that lost it since their surge was over, and of which still says no.
func (p *proceedings) surged(license string, still func(types.UID) bool) []PodRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pods []PodRef
	for uid, w := range p.licenses[license] {
		if w.surge && !still(uid) {
			pods = append(pods, w.pod)
		}
	}
	return pods
}

// debt are the entries owed for pods of a name.
func (p *proceedings) debt(pod PodRef) []audit.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if begun := p.pods[pod]; begun != nil {
		return slices.Clone(begun.owed)
	}
	return nil
}

// paid takes notice that all that was owed is logged.
func (p *proceedings) paid(pod PodRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if begun := p.pods[pod]; begun != nil {
		begun.owed = nil
	}
}

// end forgets a proceeding, and says whether there was one. Ledgers may still tell that the key was wiped.
func (p *proceedings) end(pod PodRef) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, begun := p.pods[pod]
	delete(p.pods, pod)
	return begun
}

// restored forgets a pod that has back what it lost: its key is no longer to be wiped.
func (p *proceedings) restored(pod *corev1.Pod) {
	p.end(client.ObjectKeyFromObject(pod))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, waiting := range p.licenses {
		delete(waiting, pod.UID)
	}
}

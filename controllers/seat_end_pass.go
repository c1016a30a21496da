package controllers

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
	"modelrights.dev/modelrights/internal/seatend"
	"modelrights.dev/modelrights/internal/seats"
)

const (
	// maxEndsAtOnce bounds the seats that end in one write, and so the entries that it waits for.
	maxEndsAtOnce = 512
	// endedRemembered is how long a seat that was ended is not ended again though the cache still has it.
	endedRemembered = 30 * time.Second
	// maxSeatEvents bounds the Events of one pass.
	maxSeatEvents = 10
	// podPage is how many pods are read at a time.
	podPage = 500
)

// seatPass is one look at all holders of a ledger.
type seatPass struct {
	r       *SeatEndReconciler
	ledger  *seats.Ledger
	license *v1alpha1.ModelLicense // nil where it is gone
	memory  *seatMemory
	now     time.Time

	changes []seats.Change
	ends    []seatend.End
	// unproven are the ends of which nothing proves that the pod has ended.
	unproven []bool
	// stranded are pods that wait for nodes which are gone.
	stranded []*corev1.Pod
	nodes    map[string]bool
	known    map[string]seatNode
	notices  map[types.UID]seatNotice
	// again is when to look again, more that there are more seats to end now.
	again time.Time
	more  bool
}

func (r *SeatEndReconciler) newPass(ledger *seats.Ledger, license *v1alpha1.ModelLicense, memory *seatMemory, now time.Time) *seatPass {
	return &seatPass{
		r: r, ledger: ledger, license: license, memory: memory, now: now,
		nodes: map[string]bool{}, known: map[string]seatNode{}, notices: map[types.UID]seatNotice{},
	}
}

// decide goes through the holders. Those of whom the API server must be asked it goes through again.
func (p *seatPass) decide(ctx context.Context) error {
	if p.license != nil && !follows(p.ledger, p.license) {
		p.changes = append(p.changes, seats.Limit{License: p.license})
	}
	if shorten, over := p.memory.shorten(p.ledger); over {
		p.changes = append(p.changes, shorten)
	}
	if until := p.memory.longer.until; p.license != nil && !until.IsZero() {
		p.again = until
	}
	holders := p.ledger.Holders()
	var asked []seats.Holder
	namespaces, nodes := map[string]bool{}, map[string]bool{}
	for _, h := range holders {
		v, node, err := p.decideOn(ctx, h)
		if err != nil {
			return err
		}
		if v.askPod || v.askNode {
			asked = append(asked, h)
			namespaces[h.Grant.Namespace] = namespaces[h.Grant.Namespace] || v.askPod
			nodes[node] = nodes[node] || v.askNode
			continue
		}
		p.take(h, v)
	}
	if err := p.ask(ctx, asked, namespaces, nodes); err != nil {
		return err
	}
	for _, h := range asked {
		v, node, err := p.decideOn(ctx, h)
		if err != nil {
			return err
		}
		if v.askNode { // of a pod of which it was not known where it is
			if err := p.askNode(ctx, node); err != nil {
				return err
			}
			if v, _, err = p.decideOn(ctx, h); err != nil {
				return err
			}
		}
		p.take(h, v)
	}
	if err := p.decideOnNodes(ctx, holders); err != nil {
		return err
	}
	p.memory.noticed = p.notices
	for uid, notice := range p.memory.ended {
		if p.now.Sub(notice.since) > endedRemembered {
			delete(p.memory.ended, uid)
		}
	}
	return nil
}

// decideOn decides on one holder by what is known so far, and says on which node it is.
func (p *seatPass) decideOn(ctx context.Context, h seats.Holder) (seatVerdict, string, error) {
	pod := p.r.Pods.seen(h.Pod)
	if unknown := !pod.there && !pod.gone; unknown || pod.there && pod.terminal {
		notice, ok := p.notices[h.Pod]
		if !ok {
			notice, ok = p.memory.noticed[h.Pod]
		}
		if !ok {
			notice = seatNotice{since: p.now}
		}
		p.notices[h.Pod] = notice
		pod.since, pod.absent = notice.since, unknown && notice.absent
	}
	name := h.Node
	if pod.node != "" {
		name = pod.node
	}
	var node seatNode
	if name != "" {
		p.watch(name)
		var err error
		if node, err = p.node(ctx, name); err != nil {
			return seatVerdict{}, name, err
		}
	}
	return decideSeat(h, pod, node, p.memory.terms, p.now), name, nil
}

// watch has the ledger looked at when a node changes: from before the node is read, so that no change goes unnoticed.
func (p *seatPass) watch(node string) {
	if p.nodes[node] {
		return
	}
	p.nodes[node] = true
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.memory.nodes == nil {
		p.memory.nodes = map[string]bool{}
	}
	p.memory.nodes[node] = true
}

// take notes what is to be done about a holder.
func (p *seatPass) take(h seats.Holder, v seatVerdict) {
	p.lookAgain(v.again)
	switch v.action {
	case seatStays:
	case seatBinds:
		p.changes = append(p.changes, seats.Bind{Pod: h.Pod, Node: v.node})
	case seatExpires:
		p.changes = append(p.changes, seats.Expire{Pod: h.Pod, Until: v.until})
	case seatRenewed:
		p.changes = append(p.changes, seats.Renew{Pod: h.Pod})
	case seatEnds:
		if ended, ok := p.memory.ended[h.Pod]; ok && ended.held.Equal(h.Since) && p.now.Sub(ended.since) < endedRemembered {
			p.lookAgain(ended.since.Add(endedRemembered)) // it may be there again, put back by somebody
			return
		}
		if len(p.ends) == maxEndsAtOnce {
			p.more = true
			return
		}
		pod, _ := p.r.Pods.Pod(h.Pod)
		p.ends = append(p.ends, seatend.End{Pod: h.Pod, At: v.at, Until: v.rests, Reason: v.reason, Message: v.message, Object: pod})
		p.unproven = append(p.unproven, !v.proven)
	}
}

// lookAgain has the ledger looked at again at a time, or sooner.
func (p *seatPass) lookAgain(at time.Time) {
	if !at.IsZero() && (p.again.IsZero() || at.Before(p.again)) {
		p.again = at
	}
}

// node is what the cache knows of a node, or what the API server said in this pass.
func (p *seatPass) node(ctx context.Context, name string) (seatNode, error) {
	if known, ok := p.known[name]; ok {
		return known, nil
	}
	var node corev1.Node
	err := p.r.Client.Get(ctx, client.ObjectKey{Name: name}, &node, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return seatNode{}, fmt.Errorf("reading node %s: %w", name, err)
	}
	if err != nil {
		p.known[name] = seenNode(nil)
	} else {
		p.known[name] = seenNode(&node)
	}
	return p.known[name], nil
}

// ask asks the API server about the pods and nodes that the cache does not have. A pod whose UID is not there now is gone
// for good: it held its seat before.
func (p *seatPass) ask(ctx context.Context, holders []seats.Holder, namespaces, nodes map[string]bool) error {
	for name, wanted := range nodes {
		if wanted {
			if err := p.askNode(ctx, name); err != nil {
				return err
			}
		}
	}
	there := map[types.UID]bool{}
	for namespace, wanted := range namespaces {
		if wanted {
			if err := p.askPods(ctx, namespace, there); err != nil {
				return err
			}
		}
	}
	for _, h := range holders {
		if notice, ok := p.notices[h.Pod]; ok && namespaces[h.Grant.Namespace] {
			if notice.absent = !there[h.Pod]; !notice.absent {
				notice.since = p.now // the cache is behind
			}
			p.notices[h.Pod] = notice
		}
	}
	return nil
}

func (p *seatPass) askNode(ctx context.Context, name string) error {
	var node corev1.Node
	err := p.r.Live.Get(ctx, client.ObjectKey{Name: name}, &node)
	switch {
	case err == nil:
		p.known[name] = seenNode(&node)
	case apierrors.IsNotFound(err):
		p.known[name] = seatNode{absent: true}
	default:
		return fmt.Errorf("reading node %s: %w", name, err)
	}
	return nil
}

func (p *seatPass) askPods(ctx context.Context, namespace string, there map[types.UID]bool) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	for {
		if err := p.r.Live.List(ctx, list, client.InNamespace(namespace), client.Limit(podPage), client.Continue(list.Continue)); err != nil {
			return fmt.Errorf("listing the pods of namespace %s: %w", namespace, err)
		}
		for i := range list.Items {
			there[list.Items[i].UID] = true
		}
		if list.Continue == "" {
			return nil
		}
	}
}

// carryOut makes the entries of seats that end durable, writes the ledger, and tells people.
func (p *seatPass) carryOut(ctx context.Context) error {
	logged, logErr := p.logEnds(ctx)
	changes := p.changes
	for i, end := range p.ends {
		if logged[i] {
			changes = append(changes, end.Change())
		}
	}
	if len(changes) == 0 {
		return logErr
	}
	results, err := p.r.Book.Do(ctx, p.ledger.License(), changes...)
	if err != nil {
		return fmt.Errorf("writing the ledger of licence %s: %w", p.ledger.License(), err)
	}
	p.tell(results)
	return logErr
}

// logEnds says which ends are in the log. An error holds up no other.
func (p *seatPass) logEnds(ctx context.Context) ([]bool, error) {
	logged := make([]bool, len(p.ends))
	entries := seatend.Entries(p.ledger, p.ends...)
	if len(entries) != len(p.ends) {
		return logged, fmt.Errorf("the ledger of licence %s names a pod twice", p.ledger.License())
	}
	var group errgroup.Group
	for i := range entries {
		group.Go(func() error {
			err := appendEntry(ctx, p.r.Audit, entries[i])
			logged[i] = err == nil
			return err
		})
	}
	return logged, group.Wait()
}

// tell remembers what was ended, and says on the licence of what nothing proves the end.
func (p *seatPass) tell(results []seats.Result) {
	if p.memory.ended == nil {
		p.memory.ended = map[types.UID]seatNotice{}
	}
	reasons := map[types.UID]seatend.End{}
	for i, end := range p.ends {
		if p.unproven[i] {
			reasons[end.Pod] = end
		}
	}
	unproven := 0
	for _, result := range results {
		if result.Ended == nil {
			continue
		}
		h := result.Ended.Holder
		p.memory.ended[h.Pod] = seatNotice{since: p.now, held: h.Since}
		end, ok := reasons[h.Pod]
		if !ok || p.license == nil {
			continue
		}
		if unproven++; unproven <= maxSeatEvents {
			seatEndedEvent(p.r.Events, p.license, holderRef(h, end.Object), fmt.Sprintf("the seat of %s ended: %s", holderName(h, end.Object), end.Message))
		}
	}
	if more := unproven - maxSeatEvents; more > 0 {
		seatEndedEvent(p.r.Events, p.license, nil, fmt.Sprintf("so did the seats of %d more pods, as the audit log lists", more))
	}
}

// holderName names a pod as far as it is known.
func holderName(h seats.Holder, pod *corev1.Pod) string {
	name := "a pod with UID " + string(h.Pod) + " in namespace " + h.Grant.Namespace
	if pod != nil {
		name = "pod " + pod.Namespace + "/" + pod.Name
	}
	if h.Node != "" {
		name += " on node " + h.Node
	}
	return name
}

// holderRef is the pod that an Event speaks of. Events about one pod each are not taken for the same.
func holderRef(h seats.Holder, pod *corev1.Pod) *corev1.Pod {
	if pod != nil {
		return pod
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: h.Grant.Namespace, UID: h.Pod}}
}

// closedEntry is what is told of a ledger before it is removed; used is false where there is nothing to tell.
func closedEntry(ledger *seats.Ledger, now time.Time) (e audit.Entry, used bool) {
	e = audit.Entry{
		Type:    audit.SeatEnded,
		ID:      fmt.Sprintf("%s/%s/%s", audit.SeatEnded, v1alpha1.ReasonLedgerClosed, ledger.LicenseUID()),
		License: audit.Object{Name: ledger.License(), UID: string(ledger.LicenseUID()), Generation: ledger.Generation()},
		Reason:  v1alpha1.ReasonLedgerClosed,
		Message: "the licence is deleted and nobody holds a seat of it any more; this is what was used under it in all",
	}
	e.Seconds, e.Usage = seatend.Amounts(ledger.Usage(now))
	return e, e.Seconds > 0 || len(e.Usage) > 0
}

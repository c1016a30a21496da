package seats

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// shownHolders is how many holders a message names.
const shownHolders = 3

// message says to a waiting pod why, and where it stands.
func (p *planner) message(u *unit, b *block, a Allocation) string {
	pl := b.grant.ledger
	whose := "ModelLicense " + pl.name
	if b.byGrant {
		whose = "ModelGrant " + b.grant.grant.String()
	}
	who := "the pod"
	if size := len(u.pods) + u.missing; size > 1 {
		who = fmt.Sprintf("its group of %d pods", size)
	}
	if a.Reason == v1alpha1.ReasonTooLarge {
		return fmt.Sprintf("%s wants %s %s, but %s allows %s at all: ask for less, or have the limit raised", who,
			amountText(b.lack, b.want), b.lack, whose, amountText(b.lack, b.limit()))
	}
	place := fmt.Sprintf("position %d of those that wait for ModelLicense %s", a.Position, pl.name)
	if a.Position > ExactPositions {
		place = fmt.Sprintf("more than %d pods wait before it for ModelLicense %s", ExactPositions, pl.name)
	}
	if a.Reason == v1alpha1.ReasonWaitingForGroup {
		place += fmt.Sprintf("; %s starts together", who)
	}
	switch {
	case pl.ledger == nil:
		return place + ": its seat ledger is not known yet"
	case a.Reason == v1alpha1.ReasonLedgerFull:
		return fmt.Sprintf("%s: its seat ledger holds %d pods and can hold no more", place, pl.ledger.Len())
	case b.kept:
		return fmt.Sprintf("%s: what is free of %s is kept for those before it%s", place, b.lack, p.heldText(b))
	case b.lack == "":
		return place
	}
	return fmt.Sprintf("%s: %s of %s are in use%s", place, usedText(b.lack, b.inUse(), b.limit()), whose, p.heldText(b))
}

func (b *block) limit() int64 {
	if b.byGrant {
		return b.grant.bounds.limit(b.lack)
	}
	return b.grant.ledger.ledger.bounds.limit(b.lack)
}

// inUse is how much of what lacks is in use by holders, without what is planned.
func (b *block) inUse() int64 {
	l := b.grant.ledger.ledger
	if !b.byGrant {
		return l.inUse.inUseOf(b.lack, b.grant.ledger.nodesBefore)
	}
	if i := l.findGrant(b.grant.grant); i >= 0 {
		return l.grants[i].inUse.inUseOf(b.lack, b.grant.nodesBefore)
	}
	return 0
}

// heldText says who holds the seats: the first holders of the licence, or of the grant.
func (p *planner) heldText(b *block) string {
	pl := b.grant.ledger
	to := &pl.held
	if b.byGrant {
		to = &b.grant.held
	}
	if *to == nil {
		*to = ptr.To(p.holdersText(pl.ledger, b))
	}
	return **to
}

func (p *planner) holdersText(l *Ledger, b *block) string {
	grant := -1
	if b.byGrant {
		if grant = l.findGrant(b.grant.grant); grant < 0 {
			return ""
		}
	}
	var first []*holder
	n := 0
	for i := range l.holders {
		h := &l.holders[i]
		if grant >= 0 && h.grant != int32(grant) {
			continue
		}
		n++
		at := len(first)
		for at > 0 && h.since < first[at-1].since {
			at--
		}
		if at < shownHolders {
			first = append(first[:at], append([]*holder{h}, first[at:]...)...)
			first = first[:min(len(first), shownHolders)]
		}
	}
	names := make([]string, 0, shownHolders)
	for _, h := range first {
		name := p.podName(h.pod)
		if name == "" {
			name = "a pod of ModelGrant " + l.grants[h.grant].grant.String()
		}
		names = append(names, name)
	}
	switch {
	case n == 0:
		return ""
	case n > len(names):
		return fmt.Sprintf(", by %s and %d more", strings.Join(names, ", "), n-len(names))
	default:
		return ", by " + strings.Join(names, ", ")
	}
}

func (p *planner) podName(pod types.UID) string {
	if p.in.PodName == nil {
		return ""
	}
	return p.in.PodName(pod)
}

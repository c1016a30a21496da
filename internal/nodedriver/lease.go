package nodedriver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

const (
	// leaseFileName is the file beside the key that holds the lease. Containers of the pod can read it: it holds nothing that
	// the pod does not know of itself.
	leaseFileName = ".modelrights-lease"

	// leaseFileBytes is how long that file is, whatever it holds: then it is rewritten within the memory it has, also
	// where the tmpfs is full.
	leaseFileBytes = 4096

	// leaseVersion is the version of the file's form.
	leaseVersion = 1
)

// lease says for how long a key may stay. It lies beside the key, so that a driver that is started anew honours it.
type lease struct {
	Version int `json:"v"`
	// Volume is what the key was released for.
	Volume protocol.Volume `json:"volume"`
	// BootID is the start of the node from which the times below count.
	BootID string `json:"bootID"`
	// Until is when the lease is over; 0 means never.
	Until time.Duration `json:"until,omitempty"`
	// Answered is when the key service last answered, by when it was asked.
	Answered time.Duration `json:"answered,omitempty"`
	// Due is why the key has to go whatever the lease says: it could not be wiped yet.
	Due v1alpha1.Reason `json:"due,omitempty"`
	// Wiped is why there is no key any more; empty where there is one.
	Wiped v1alpha1.Reason `json:"wiped,omitempty"`
}

// newLease is the lease of a key that was asked for at a time.
func newLease(volume protocol.Volume, clock BootClock, asked time.Duration, seconds int64) lease {
	l := lease{Version: leaseVersion, Volume: volume}
	l.renew(clock, asked, seconds)
	return l
}

// renew makes the lease count anew from when the key service was asked: it counted from later on.
func (l *lease) renew(clock BootClock, asked time.Duration, seconds int64) {
	l.BootID, l.Answered, l.Until = clock.ID(), asked, 0
	if seconds > 0 {
		l.Until = asked + min(time.Duration(min(seconds, int64(protocol.MaxLease/time.Second)))*time.Second, protocol.MaxLease)
	}
}

// left is how long the lease still lasts, and whether it ends at all. That of another start of the node is over, and so is that
// of a key which should be gone.
func (l *lease) left(clock BootClock) (left time.Duration, ends bool) {
	if l.BootID != clock.ID() || l.Due != "" {
		return 0, true
	}
	return max(0, l.Until-clock.Now()), l.Until > 0
}

// over says whether the key must not be there any more.
func (l *lease) over(clock BootClock) bool {
	left, ends := l.left(clock)
	return ends && left == 0
}

// ending is why a key whose lease is over is wiped, and which cause is counted.
func (l *lease) ending() (reason v1alpha1.Reason, cause string) {
	if l.Due != "" && l.Due != v1alpha1.ReasonLeaseEnded {
		return l.Due, causeRefused
	}
	return v1alpha1.ReasonLeaseEnded, causeLease
}

// early says whether the key service answered so short a time ago that a call of kubelet's was not due.
func (l *lease) early(clock BootClock) bool {
	return l.BootID == clock.ID() && l.Answered > 0 && clock.Now()-l.Answered < protocol.EarlyRenewal
}

// encode returns the content of the lease's file.
func (l *lease) encode() ([]byte, error) {
	content, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode the lease: %w", err)
	}
	if len(content) > leaseFileBytes {
		return nil, errors.New("encode the lease: its names are too long")
	}
	return append(content, bytes.Repeat([]byte("\n"), leaseFileBytes-len(content))...), nil
}

// beside returns files with that of the lease among them.
func (l *lease) beside(files map[string][]byte) (map[string][]byte, error) {
	content, err := l.encode()
	if err != nil {
		return nil, err
	}
	all := maps.Clone(files)
	all[leaseFileName] = content
	return all, nil
}

// decodeLease reads the content of a lease's file.
func decodeLease(content []byte) (lease, error) {
	var l lease
	if err := json.Unmarshal(content, &l); err != nil {
		return lease{}, fmt.Errorf("read the lease: %w", err)
	}
	if l.Version != leaseVersion {
		return lease{}, fmt.Errorf("read the lease: version %d is not known", l.Version)
	}
	return l, nil
}

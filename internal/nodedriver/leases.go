package nodedriver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

const (
	// longestSleep bounds how late the end of a lease is noticed after the node was suspended: timers do not run then.
	longestSleep = 5 * time.Second

	// longestWipePause is the longest time between two attempts to wipe a key that cannot be wiped.
	longestWipePause = 15 * time.Second
)

// leases are what the driver knows of the keys on its node, by target. Beside each key lies the same, for the driver's
// next run.
type leases struct {
	mu   sync.Mutex
	held map[string]lease
	// failing are the attempts to wipe a key that failed, since the last that did not.
	failing map[string]failing
	// changed has an element when a lease may end sooner than was known.
	changed chan struct{}
}

// failing is how often in a row a key could not be wiped, and when it is tried again.
type failing struct {
	attempts  int
	notBefore time.Duration
}

func newLeases() *leases {
	return &leases{held: map[string]lease{}, failing: map[string]failing{}, changed: make(chan struct{}, 1)}
}

func (l *leases) get(target string) (lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.held[target]
	return found, ok
}

func (l *leases) put(target string, value lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[target] = value
	if value.Due == "" {
		delete(l.failing, target)
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *leases) remove(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, target)
	delete(l.failing, target)
}

// failed has a key wiped again after a pause, longer each time.
func (l *leases) failed(target string, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.failing[target]
	l.failing[target] = failing{attempts: f.attempts + 1, notBefore: now + min(backOff(f.attempts), longestWipePause)}
}

// due lists the targets whose lease is over while the key is there, and how long it is until there is another. A key that could
// not be wiped waits for its next attempt.
func (l *leases) due(clock BootClock) (over []string, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next = longestSleep
	for target, held := range l.held {
		left, ends := held.left(clock)
		switch {
		case held.Wiped != "" || !ends:
		case left == 0:
			if wait := l.failing[target].notBefore - clock.Now(); wait > 0 {
				next = min(next, wait)
				continue
			}
			over = append(over, target)
		default:
			next = min(next, left)
		}
	}
	return over, next
}

// recoverLeases finds the keys that an earlier run of the driver left, and their leases. It changes nothing of them.
func (d *Driver) recoverLeases() error {
	targets, err := d.options.Mounts.Held(d.options.KubeletDir)
	if err != nil {
		return fmt.Errorf("find the keys on the node: %w", err)
	}
	found := 0
	for _, target := range targets {
		unlock, err := d.targets.lock(context.Background(), target)
		if err != nil {
			return err
		}
		if held, ok := d.leaseAt(target); ok {
			found++
			if state, err := d.options.Mounts.Look(target); held.Wiped != "" && err == nil && state == KeyMounted {
				// The driver ended while it put the key back.
				d.leases.put(target, lease{Version: leaseVersion, Volume: held.Volume})
			}
		}
		unlock()
	}
	d.options.Log.Info("Leases found", "leases", found, "volumes", len(targets))
	return nil
}

// leaseAt is the lease of the key at a target, which the caller has locked. There is none of a key that a driver without
// leases mounted. What lies there and cannot be read is a lease that is over: the driver alone writes it.
func (d *Driver) leaseAt(target string) (lease, bool) {
	if known, ok := d.leases.get(target); ok {
		return known, true
	}
	content, err := d.options.Mounts.Read(target, leaseFileName)
	if err == nil && content == nil {
		return lease{}, false
	}
	var found lease
	if err == nil {
		found, err = decodeLease(content)
	}
	if err != nil {
		d.options.Log.Error(err, "A lease cannot be read; its key is wiped", "target", target)
		found = lease{Version: leaseVersion}
	}
	d.leases.put(target, found)
	return found, true
}

// write puts a lease beside the key at a target, which the caller has locked.
func (d *Driver) writeLease(target string, l lease) error {
	content, err := l.encode()
	if err != nil {
		return err
	}
	if err := d.options.Mounts.Rewrite(target, map[string][]byte{leaseFileName: content}); err != nil {
		return err
	}
	d.leases.put(target, l)
	return nil
}

// enforce wipes the keys whose leases are over, and returns after what time to look again.
func (d *Driver) enforce(ctx context.Context) (next time.Duration) {
	over, next := d.leases.due(d.options.Boot)
	for _, target := range over {
		if err := d.endLease(ctx, target); err != nil {
			d.options.Log.Error(err, "A key whose lease is over cannot be wiped; it is tried again", "target", target)
			d.leases.failed(target, d.options.Boot.Now())
			next = min(next, backOff(0))
		}
	}
	return next
}

// endLease wipes the key at a target if its lease is over by now.
func (d *Driver) endLease(ctx context.Context, target string) error {
	unlock, err := d.targets.lock(ctx, target)
	if err != nil {
		return err
	}
	defer unlock()
	held, ok := d.leases.get(target)
	if !ok || held.Wiped != "" || !held.over(d.options.Boot) {
		return nil
	}
	state, err := d.options.Mounts.Look(target)
	if err != nil {
		return err
	}
	if state == NothingMounted || state == ForeignMounted {
		// Taken down while the driver was away, or by somebody else.
		d.leases.remove(target)
		return nil
	}
	reason, cause := held.ending()
	return d.wipe(target, held, reason, cause)
}

// wipe makes the key at a target, which the caller has locked, unreadable to whoever has it open or mounted, and reports it.
// Where that fails it is due from then on, and tried again until it is done, in the driver's next run if need be.
func (d *Driver) wipe(target string, held lease, reason v1alpha1.Reason, cause string) error {
	if err := d.options.Mounts.Wipe(target, leaseFileName); err != nil {
		return d.notWiped(target, held, reason, err)
	}
	held.Wiped, held.Due = reason, ""
	d.metrics.wiped.WithLabelValues(cause).Inc()
	v := held.Volume
	d.options.Log.Info("Key wiped", "reason", reason, "namespace", v.PodNamespace, "pod", v.PodName, "license", v.License, "volume", v.Handle)
	if v.PodUID != "" {
		d.reports.add(target, v, protocol.Wiped, reason)
	}
	d.leases.put(target, held)
	// Without it a later run finds a key that is empty, and wipes and reports it again.
	if err := d.writeLease(target, held); err != nil {
		d.options.Log.Error(err, "A wiped key cannot be noted as such", "target", target)
	}
	return nil
}

// notWiped notes that a key at a target, which the caller has locked, could not be wiped, for enforce to do it.
func (d *Driver) notWiped(target string, held lease, reason v1alpha1.Reason, cause error) error {
	d.metrics.wipeFailures.Inc()
	held.Wiped, held.Due = "", reason
	d.leases.put(target, held)
	err := fmt.Errorf("wipe the key: %w", cause)
	if noteErr := d.writeLease(target, held); noteErr != nil {
		err = errors.Join(err, fmt.Errorf("note that the key is to be wiped: %w", noteErr))
	}
	return err
}

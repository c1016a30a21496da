package trustedtime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/audit"
)

const (
	// askTimeout bounds each look at the time.
	askTimeout = 5 * time.Second
	// probeEvery is how often a replica asks for the time, and up to a fifth later: a machine that its hypervisor paused is late by as
	// much, since no clock of it went on. probeSoon is how often while a stamp is held, and after a failure.
	probeEvery = 10 * time.Minute
	probeSoon  = time.Minute
	// probeJitter is by which part pauses are longer, so that replicas do not ask together.
	probeJitter = 0.2
)

// Asker asks the API server what time it is.
type Asker interface {
	Ask(ctx context.Context) (time.Time, error)
}

// dryRun asks by creating an audit record as a dry run, which is stamped and not stored.
type dryRun struct {
	writer client.Writer
	hangUp func()
}

// Ask returns the API server's time, in whole seconds.
func (d dryRun) Ask(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	defer d.hangUp()
	probe := &v1alpha1.ModelAuditRecord{
		ObjectMeta: metav1.ObjectMeta{Name: audit.RecordName(math.MaxInt64)},
		Spec:       v1alpha1.ModelAuditRecordSpec{FirstIndex: math.MaxInt64, Summary: "What time is it?", Entries: []string{"{}"}},
	}
	if err := d.writer.Create(ctx, probe, client.DryRunAll); err != nil {
		return time.Time{}, fmt.Errorf("asking the API server for its time: %w", err)
	}
	if probe.CreationTimestamp.IsZero() {
		return time.Time{}, errors.New("asking the API server for its time: it has set none")
	}
	return probe.CreationTimestamp.Time, nil
}

// NewAsker asks by creating an audit record as a dry run, which is stamped and not stored: over a new connection each time, so
// that any of several API servers behind one address answers. It needs create on modelauditrecords.
func NewAsker(config *rest.Config, scheme *runtime.Scheme, mapper meta.RESTMapper) (Asker, error) {
	config = rest.CopyConfig(config)
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	connections := connrotation.NewDialer(dial)
	config.Dial = connections.DialContext
	writer, err := client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("making a client that asks for the time: %w", err)
	}
	return dryRun{writer: writer, hangUp: connections.CloseAll}, nil
}

// Prober keeps a Clock right on its replica, while nothing is written to the audit log, and finds out about stamps that are
// held.
type Prober struct {
	Clock *Clock
	Asker Asker
	// Timers runs the timers. Default: the machine.
	Timers clock.WithTicker
	Log    logr.Logger
}

var (
	_ manager.Runnable               = (*Prober)(nil)
	_ manager.LeaderElectionRunnable = (*Prober)(nil)
)

// NeedLeaderElection is false: every replica decides by its own clock.
func (p *Prober) NeedLeaderElection() bool { return false }

// Start asks until the context ends. Of failures in a row it logs the first.
func (p *Prober) Start(ctx context.Context) error {
	if p.Timers == nil {
		p.Timers = clock.RealClock{}
	}
	soon, failing := false, false
	for {
		if !p.sleep(ctx, soon) {
			return nil
		}
		at, err := p.Asker.Ask(ctx)
		if err == nil {
			p.Clock.Probed(at)
		} else if !failing && ctx.Err() == nil {
			p.Log.Error(err, "The time is not known anew; asking again every minute")
		}
		failing = err != nil
		_, held := p.Clock.Held()
		soon = failing || held
	}
}

// sleep waits until it is time to ask; false where the context has ended. A stamp that is held shortens a long wait.
func (p *Prober) sleep(ctx context.Context, soon bool) bool {
	pause := probeEvery
	if soon {
		pause = probeSoon
	}
	timer := p.Timers.NewTimer(wait.Jitter(pause, probeJitter))
	defer func() { timer.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C():
			return true
		case <-p.Clock.alarm:
			if at, held := p.Clock.Held(); held {
				p.Log.Info("The API server's clock has leapt ahead; that is not believed before it is confirmed", "to", at)
			}
			if !soon {
				soon = true
				timer.Stop()
				timer = p.Timers.NewTimer(wait.Jitter(probeSoon, probeJitter))
			}
		}
	}
}

package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// What docs/how-to/review-the-audit-log.md and docs/threat-model.md promise of one replica.
const (
	promisedNamespaceDaily = 6 << 20
	promisedTotalDaily     = 55 << 20
	promisedTotalOnce      = 8 << 20
)

// TestHostileWeek lets namespaces cause as many denials, key refusals, finds and sessions as they can think of for a week: ever new
// owners, images, users and reasons, each several times, in short and in the longest texts.
func TestHostileWeek(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for name, test := range map[string]struct {
		namespaces int
		step       time.Duration
		each       int // attempts a step
		text       string
		daily      int64
		once       int64
	}{
		"one namespace, short texts":   {1, 30 * time.Minute, 20, "", promisedNamespaceDaily, 1 << 20},
		"one namespace, long texts":    {1, 30 * time.Minute, 8, strings.Repeat("x", MaxLeafBytes), promisedNamespaceDaily, 1 << 20},
		"one namespace, markup":        {1, 30 * time.Minute, 8, strings.Repeat("<", MaxLeafBytes), promisedNamespaceDaily, 1 << 20},
		"many namespaces, short texts": {60, time.Hour, 8, "", promisedTotalDaily, promisedTotalOnce},
		"many namespaces, long texts":  {40, time.Hour, 6, strings.Repeat("x", MaxLeafBytes), promisedTotalDaily, promisedTotalOnce},
		"many namespaces, markup":      {40, time.Hour, 6, strings.Repeat("<", MaxLeafBytes), promisedTotalDaily, promisedTotalOnce},
		"more namespaces than counted": {1200, 4 * time.Hour, 1, "", promisedTotalDaily, promisedTotalOnce},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, told := NewDenials(DenialLimits{}), newTally()
			var attempts, atDay int64
			template := hostileDenial(test.text)
			owner := template.Owner.Name[min(len(template.Owner.Name), 12):]
			start := noon.Truncate(time.Hour)
			for at := time.Duration(0); at < week; at += test.step {
				if at%(24*time.Hour) == 0 {
					if day := told.etcd - atDay; day > test.daily+test.once {
						t.Errorf("%d bytes in a day", day)
					}
					atDay = told.etcd
				}
				for ns := range test.namespaces {
					for n := range test.each {
						e := template
						e.Namespace, e.Type = fmt.Sprintf("ns-%d", ns), Denied
						e.Owner.Name = fmt.Sprintf("%012d%s", attempts, owner)
						e.Reason = v1alpha1.Reason(fmt.Sprintf("Reason%d", n))
						for again := range 2 {
							for _, e.Type = range []Type{Denied, KeyRefused, Found, Exec} {
								e.ID = fmt.Sprintf("KeyRefused/%035d%d", attempts, again)
								told.observe(t, d, start.Add(at), e)
								attempts++
							}
						}
					}
				}
				if len(d.spaces) > DefaultNamespaces || len(d.logged) > 3000 {
					t.Fatalf("%d namespaces and %d denials are remembered", len(d.spaces), len(d.logged))
				}
			}
			told.take(t, d.FlushAll(start.Add(week)))
			if told.told != attempts {
				t.Errorf("the log tells of %d denials of %d", told.told, attempts)
			}
			if limit := 7*test.daily + test.once; told.etcd > limit || told.canonical > told.etcd {
				t.Errorf("%d bytes in etcd, %d of them entries, in a week, want at most %d", told.etcd, told.canonical, limit)
			}
			if gaps, limit := told.written[Gap], int64(7*24+1)*int64(min(test.namespaces, DefaultGapsPerHour)+1); gaps > limit {
				t.Errorf("%d Gap entries, want at most %d", gaps, limit)
			}
			t.Logf("%d attempts; a day: %d entries, %d KiB canonical, %d KiB in etcd; %d Gap entries", attempts, told.entries/7,
				told.canonical/7>>10, told.etcd/7>>10, told.written[Gap])
		})
	}
}

package alerts

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
)

// interval is how often rules are evaluated, and series sampled.
const interval = time.Minute

// TestFiring evaluates each alert over sample series, as promtool test rules does: when it fires, and when it does not.
// Series are in the notation of promtool, a sample a minute.
func TestFiring(t *testing.T) {
	all, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for name, test := range map[string]struct {
		alert, series string
		fires, quiet  []time.Duration
	}{
		"a licence that ends in 14 days and an hour": {"ModelLicenseExpiresSoon", `modelrights_license_expiration_timestamp_seconds{license="a"} 1213200x300`,
			minutes(70, 100), minutes(0, 50, 62)},
		"a licence that has ended": {"ModelLicenseExpiresSoon", `modelrights_license_expiration_timestamp_seconds{license="a"} 3600x300`,
			minutes(10, 59), minutes(60, 100)},
		"a licence that has ended and is in use": {"ModelLicenseEndedInUse", `
			modelrights_license_expiration_timestamp_seconds{license="a"} 3600x300
			modelrights_license_expiration_timestamp_seconds{license="b"} 999999x300
			modelrights_seats_in_use{license="a",resource="pods"} 2x90 0x100
			modelrights_seats_in_use{license="b",resource="pods"} 2x300`, minutes(60, 90), minutes(59, 91)},
		"pods that wait":         {"ModelLicenseFull", `modelrights_seats_waiting{license="a"} 0x5 3x60 0x60`, minutes(21, 60), minutes(5, 20, 70)},
		"pods beyond the limits": {"ModelLicenseOverLimit", `modelrights_seats_beyond_limits{license="a"} 0x5 1x120 0x60`, minutes(66, 120), minutes(5, 65, 130)},
		"more denials than ever": {"ModelPodsDeniedSpike", `modelrights_admission_decisions_total{verdict="denied",reason="NoGrant"} 0x600 0+10x60`,
			minutes(607, 620), minutes(600, 603)},
		"as many denials as always":    {"ModelPodsDeniedSpike", `modelrights_admission_decisions_total{verdict="denied",reason="NoGrant"} 0+10x700`, nil, minutes(500, 650)},
		"few denials":                  {"ModelPodsDeniedSpike", `modelrights_admission_decisions_total{verdict="denied",reason="NoGrant"} 0x600 0+1x60`, nil, minutes(607, 620, 650)},
		"admissions":                   {"ModelPodsDeniedSpike", `modelrights_admission_decisions_total{verdict="allowed",reason="Entitled"} 0x600 0+100x60`, nil, minutes(607, 620, 650)},
		"lookups that fail":            {"ModelLookupsFail", `modelrights_admission_decisions_total{verdict="denied",reason="LookupFailed"} 0x10 1+1x30 31x60`, minutes(20, 40), minutes(9, 60)},
		"keys that are refused":        {"ModelKeysRefused", `modelrights_key_refusals_total{reason="NoSeat"} 0x10 0+1x60 60x60`, minutes(30, 60), minutes(10, 20, 110)},
		"a copy":                       {"ModelCopyDetected", `modelrights_audit_entries_total{type="CopyDetected"} 0x10 1x200`, minutes(15, 60), minutes(9, 90)},
		"other entries":                {"ModelCopyDetected", `modelrights_audit_entries_total{type="Admitted"} 0+5x200`, nil, minutes(15, 60)},
		"a key that is not wiped":      {"ModelKeyNotWiped", `modelrights_revocation_oldest_wipe_seconds 0x5 0+60x20 0x60`, minutes(17, 25), minutes(5, 15, 40)},
		"a clock ahead":                {"ModelRightsClockSkewed", `modelrights_clock_skew_seconds{pod="a"} 0x5 400x30 0x30`, minutes(12, 30), minutes(5, 8, 50)},
		"a clock behind":               {"ModelRightsClockSkewed", `modelrights_clock_skew_seconds{pod="a"} -400x30`, minutes(6), nil},
		"a clock that leaps":           {"ModelRightsClockLeapt", `modelrights_clock_held_seconds{pod="a"} 0x5 86400 0x30`, minutes(6, 15), minutes(5, 25)},
		"a log that cannot be written": {"ModelAuditLogNotWritable", `modelrights_audit_write_errors_total{result="retried"} 0x5 0+1x60`, minutes(20, 60), minutes(5, 12)},
		"entries that are dropped":     {"ModelAuditEntriesDropped", `modelrights_audit_dropped_total{type="Denied"} 0x10 5x60`, minutes(12, 20), minutes(9, 40)},
		"a certificate that is not renewed": {"ModelRightsCertificateExpiresSoon", `
			modelrights_certificate_expiration_timestamp_seconds{certificate="leaf"} 1209600x300
			modelrights_certificate_expiration_timestamp_seconds{certificate="ca"} 99999999x300`, minutes(90), minutes(0, 59)},
		"no operator": {"ModelRightsAbsent", `modelrights_audit_records_total{pod="a"} 0+1x30 _x60`, minutes(60), minutes(5, 34, 40)},
		"one operator of two": {"ModelRightsAbsent", `
			modelrights_audit_records_total{pod="a"} 0+1x30 _x60
			modelrights_audit_records_total{pod="b"} 0+1x90`, nil, minutes(60)},
	} {
		t.Run(name, func(t *testing.T) {
			rule, ok := all[test.alert]
			if !ok {
				t.Fatalf("there is no alert %s", test.alert)
			}
			storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.TrimSpace(test.series))
			engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
			holds := func(at time.Duration) bool {
				q, err := engine.NewInstantQuery(context.Background(), storage, nil, rule.Expr, time.Unix(0, 0).Add(at))
				if err != nil {
					t.Fatal(err)
				}
				defer q.Close()
				result := q.Exec(context.Background())
				if result.Err != nil {
					t.Fatal(result.Err)
				}
				vector, err := result.Vector()
				if err != nil {
					t.Fatal(err)
				}
				return len(vector) > 0
			}
			// An alert fires that has held at each evaluation for as long as the rule says.
			firing := func(at time.Duration) bool {
				for since := at; since >= max(0, at-holdsFor(rule)); since -= interval {
					if !holds(since) {
						return false
					}
				}
				return at >= holdsFor(rule)
			}
			for _, at := range test.fires {
				if !firing(at) {
					t.Errorf("does not fire at %v", at)
				}
			}
			for _, at := range test.quiet {
				if firing(at) {
					t.Errorf("fires at %v", at)
				}
			}
		})
		if len(test.fires) > 0 {
			tested[test.alert] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !tested[name] {
			t.Errorf("%s never fires in a test", name)
		}
	}
}

func minutes(n ...int) []time.Duration {
	var all []time.Duration
	for _, m := range n {
		all = append(all, time.Duration(m)*time.Minute)
	}
	return all
}

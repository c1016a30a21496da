package nodedriver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

func (r *rig) withReports(t *testing.T) *rig {
	t.Helper()
	r.dir = filepath.Join(t.TempDir(), "plugins", "reports")
	return r
}

// files lists what waits on disk.
func (r *rig) files(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// Unpublish needs no key service: the report waits, over restarts, until it is taken, and is delivered once.
func TestUnpublishIsReported(t *testing.T) {
	r := newRig().withReports(t)
	d := r.driver()
	r.publish(t, d)
	r.keys.reportErr = errAway
	r.unpublish(t, d)
	(&courier{driver: d}).deliver(t.Context())
	if got := r.files(t); len(got) != 1 {
		t.Fatalf("on disk: %v", got)
	}
	content, err := os.ReadFile(r.files(t)[0])
	if err != nil || strings.Contains(string(content), "SECRET") {
		t.Fatalf("the report holds a secret, or cannot be read: %s, %v", content, err)
	}
	for range 20 {
		d = r.restart(t)
		(&courier{driver: d}).deliver(t.Context())
	}
	r.boot.step(90 * time.Second)
	r.keys.reportErr, r.keys.reports = nil, nil
	d = r.restart(t)
	for range 3 {
		(&courier{driver: d}).deliver(t.Context())
	}
	want := []protocol.ReportRequest{{
		Volume: protocol.Volume{PodNamespace: "ml-prod", PodName: "llm-0", PodUID: "uid-1", License: "acme", Handle: "csi-1234"},
		Event:  protocol.Unpublished, AgeMilliseconds: 90_000,
	}}
	if !slices.Equal(r.keys.reports, want) || len(r.files(t)) != 0 {
		t.Errorf("told %+v, left %v", r.keys.reports, r.files(t))
	}
	r.noSecrets(t)
}

// After the node was started anew nobody can tell how long ago it was.
func TestReportOfAnotherStart(t *testing.T) {
	r := newRig().withReports(t)
	r.publish(t, r.driver())
	r.unpublish(t, r.driver())
	r.boot.id, r.boot.now = "boot-2", time.Second
	(&courier{driver: r.restart(t)}).deliver(t.Context())
	if len(r.keys.reports) != 1 || r.keys.reports[0].AgeMilliseconds != 0 {
		t.Errorf("told %+v", r.keys.reports)
	}
}

// The driver ends between the report and the unmount: nothing is said while the volume is there, or if it is used again.
func TestUnpublishIsInterrupted(t *testing.T) {
	for name, finish := range map[string]struct {
		do    func(*testing.T, *rig, *Driver)
		event []string
		waits int
	}{
		"and repeated":     {func(t *testing.T, r *rig, d *Driver) { r.unpublish(t, d) }, []string{"Unpublished"}, 0},
		"and not repeated": {func(*testing.T, *rig, *Driver) {}, nil, 1},
		"and taken back":   {func(t *testing.T, r *rig, d *Driver) { r.unpublish(t, d); r.publish(t, d) }, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig().withReports(t)
			r.publish(t, r.driver())
			r.mounts.fail["DetachAll"] = errBroken
			if _, err := r.driver().NodeUnpublishVolume(t.Context(), unpublishRequest()); err == nil {
				t.Fatal("unmounted")
			}
			delete(r.mounts.fail, "DetachAll")
			if r.key() != "" {
				t.Error("the key was not wiped before it was to be unmounted")
			}
			d := r.restart(t)
			(&courier{driver: d}).deliver(t.Context())
			if len(r.keys.reports) != 0 {
				t.Fatalf("told %+v while the volume was there", r.keys.reports)
			}
			finish.do(t, r, d)
			r.boot.step(time.Minute)
			(&courier{driver: d}).deliver(t.Context())
			var events []string
			for _, told := range r.keys.reports {
				events = append(events, string(told.Event))
			}
			if !slices.Equal(events, finish.event) || d.reports.len() != finish.waits {
				t.Errorf("told %v, want %v; %d wait, want %d", events, finish.event, d.reports.len(), finish.waits)
			}
		})
	}
}

// A wiped key is reported before the end of its volume, however late both come: after the end nobody knows the pod.
func TestReportsKeepTheirOrder(t *testing.T) {
	r := newRig().withReports(t)
	d := r.driver()
	r.publish(t, d)
	r.keys.verdict, r.keys.reportErr = protocol.RenewResponse{Verdict: protocol.Wipe, Reason: v1alpha1.ReasonSuspended}, errAway
	r.publish(t, d)
	r.unpublish(t, d)
	c := &courier{driver: d}
	c.deliver(t.Context())
	r.keys.reports, r.keys.reportErr = nil, nil
	r.boot.step(time.Minute)
	if now, _ := d.reports.ready(protocol.MaxCallsPerNode); len(now) != 1 || now[0].Event != protocol.Wiped {
		t.Errorf("at the same time: %+v", now)
	}
	c.deliver(t.Context())
	if len(r.keys.reports) != 2 || r.keys.reports[0].Event != protocol.Wiped || r.keys.reports[0].Reason != v1alpha1.ReasonSuspended ||
		r.keys.reports[1].Event != protocol.Unpublished {
		t.Errorf("told %+v", r.keys.reports)
	}
}

func TestReportsThatAreNotTaken(t *testing.T) {
	tests := map[string]struct {
		err error
		// tries is how often it is tried in an hour; left whether it still waits then.
		tries func(int) bool
		left  bool
	}{
		"no answer":         {errAway, func(n int) bool { return n > 55 && n < 75 }, true},
		"too many":          {&protocol.Error{Reason: v1alpha1.ReasonTooManyRequests, Message: "later", Temporary: true}, func(n int) bool { return n > 55 && n < 75 }, true},
		"token refused":     {&protocol.Error{Reason: v1alpha1.ReasonUnauthenticated, Message: "who"}, func(n int) bool { return n > 55 && n < 75 }, true},
		"the pod runs":      {&protocol.Error{Reason: v1alpha1.ReasonPodRuns, Message: "not yet", Temporary: true}, func(n int) bool { return n > 55 && n < 75 }, true},
		"not the holder":    {&protocol.Error{Reason: v1alpha1.ReasonNotHolder, Message: "no"}, func(n int) bool { return n == 1 }, false},
		"an unknown reason": {&protocol.Error{Reason: "Later", Message: "no"}, func(n int) bool { return n == 1 }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig().withReports(t)
			d := r.driver()
			r.publish(t, d)
			r.unpublish(t, d)
			r.keys.reportErr = tc.err
			c := &courier{driver: d}
			for range 3600 {
				if next := c.deliver(t.Context()); next <= 0 || next > longestSleep {
					t.Fatalf("next after %s", next)
				}
				r.boot.step(time.Second)
			}
			if n := len(r.keys.reports); !tc.tries(n) || (d.reports.len() > 0) != tc.left || (len(r.files(t)) > 0) != tc.left {
				t.Errorf("tried %d times, left %d, on disk %v", n, d.reports.len(), r.files(t))
			}
		})
	}
}

// One pod whose end is not believed yet keeps no other's from being told.
func TestReportsDoNotWaitForEachOther(t *testing.T) {
	r := newRig().withReports(t)
	d := r.driver()
	for _, uid := range []string{"a", "b", "c", "d", "e", "f"} {
		d.reports.add(kubeletDir+"/pods/"+uid, protocol.Volume{PodUID: uid}, protocol.Unpublished, "")
	}
	d.options.Keys = pickyKeys{r.keys, "a"}
	(&courier{driver: d}).deliver(t.Context())
	if d.reports.len() != 1 {
		t.Errorf("%d wait", d.reports.len())
	}
}

func TestReportsAreBounded(t *testing.T) {
	r := newRig()
	d := r.driver()
	for i := range maxReports + 10 {
		d.reports.add(strings.Repeat("x", i), protocol.Volume{}, protocol.Unpublished, "")
	}
	if d.reports.len() != maxReports || d.reports.waiting[0].Sequence != 11 {
		t.Errorf("%d wait, from %d on", d.reports.len(), d.reports.waiting[0].Sequence)
	}
	d.reports.wall = func() time.Time { return time.Now().Add(maxReportAge + time.Hour) }
	(&courier{driver: d}).deliver(t.Context())
	if d.reports.len() != 0 || len(r.keys.reports) != 0 {
		t.Errorf("%d wait, %d were told", d.reports.len(), len(r.keys.reports))
	}
}

// What somebody else put into the directory stops nothing, and no number is given twice.
func TestReportsThatCannotBeRead(t *testing.T) {
	r := newRig().withReports(t)
	r.driver().reports.add(target, protocol.Volume{PodUID: "a"}, protocol.Unpublished, "")
	for name, content := range map[string]string{"0000000000000009.json": `{"sequence": 8}`, "x.json": "garbage", "note.txt": "hello", "0000000000000002.json.new": "{"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := r.driver()
	d.reports.add(target, protocol.Volume{PodUID: "b"}, protocol.Unpublished, "")
	if d.reports.len() != 2 || d.reports.waiting[0].Sequence == d.reports.waiting[1].Sequence {
		t.Errorf("waiting: %d", d.reports.len())
	}
	if len(r.logged("cannot be read")) == 0 {
		t.Error("nothing was logged")
	}
}

// Where nothing can be written, kubelet is told nothing of it, and the report is delivered all the same.
func TestReportsThatCannotBeKept(t *testing.T) {
	r := newRig()
	r.dir = "/proc/none/reports"
	d := r.driver()
	r.publish(t, d)
	r.unpublish(t, d)
	(&courier{driver: d}).deliver(t.Context())
	if len(r.keys.reports) != 1 {
		t.Errorf("told %+v", r.keys.reports)
	}
}

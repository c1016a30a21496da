package nodedriver

import (
	"strings"
	"testing"
	"time"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

func TestLeaseEnds(t *testing.T) {
	const asked = 1000 * time.Second
	tests := map[string]struct {
		seconds int64
		boot    *fakeBoot
		left    time.Duration
		ends    bool
		over    bool
		early   bool
	}{
		"just asked":                 {seconds: 60, boot: &fakeBoot{id: "a", now: asked}, left: time.Minute, ends: true, early: true},
		"a moment before the end":    {seconds: 60, boot: &fakeBoot{id: "a", now: asked + time.Minute - 1}, left: 1, ends: true, early: true},
		"at the end":                 {seconds: 60, boot: &fakeBoot{id: "a", now: asked + time.Minute}, ends: true, over: true},
		"after the node slept":       {seconds: 60, boot: &fakeBoot{id: "a", now: asked + 8*time.Hour}, ends: true, over: true},
		"when kubelet comes by":      {seconds: 3600, boot: &fakeBoot{id: "a", now: asked + 76*time.Second}, left: time.Hour - 76*time.Second, ends: true},
		"no lease":                   {seconds: 0, boot: &fakeBoot{id: "a", now: asked + 1000*time.Hour}},
		"another start of the node":  {seconds: 3600, boot: &fakeBoot{id: "b", now: asked}, ends: true, over: true},
		"another start, no lease":    {seconds: 0, boot: &fakeBoot{id: "b", now: asked}, ends: true, over: true},
		"longer than leases may be":  {seconds: 1 << 62, boot: &fakeBoot{id: "a", now: asked}, left: protocol.MaxLease, ends: true, early: true},
		"a day and a second is over": {seconds: 1 << 62, boot: &fakeBoot{id: "a", now: asked + protocol.MaxLease + time.Second}, ends: true, over: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLease(protocol.Volume{PodUID: "u"}, &fakeBoot{id: "a", now: asked}, asked, tc.seconds)
			content, err := l.encode()
			if err != nil {
				t.Fatal(err)
			}
			if len(content) != leaseFileBytes {
				t.Errorf("the file has %d bytes", len(content))
			}
			again, err := decodeLease(content)
			if err != nil || again != l {
				t.Fatalf("read %+v, %v, want %+v", again, err, l)
			}
			left, ends := again.left(tc.boot)
			if left != tc.left || ends != tc.ends || again.over(tc.boot) != tc.over || again.early(tc.boot) != tc.early {
				t.Errorf("left %s, ends %t, over %t, early %t", left, ends, again.over(tc.boot), again.early(tc.boot))
			}
		})
	}
}

func TestLeaseThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"nothing": "", "zeros": strings.Repeat("\x00", leaseFileBytes), "torn": `{"v":1,"volume":{"podN`, "of a later version": `{"v":2}`,
	} {
		if l, err := decodeLease([]byte(content)); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	long := lease{Volume: protocol.Volume{Handle: strings.Repeat("x", leaseFileBytes)}}
	if _, err := long.encode(); err == nil {
		t.Error("a lease that does not fit was encoded")
	}
}

package gauge

import (
	"os"
	"testing"
	"time"
)

func TestOwnProcess(t *testing.T) {
	start, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
		continue
	}
	end, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if end <= start {
		t.Errorf("CPU time went from %v to %v while this process kept busy", start, end)
	}
	m, err := MemoryOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if m.RSS <= 0 || m.PeakRSS < m.RSS || m.PSS <= 0 {
		t.Errorf("memory = %+v", m)
	}
	if _, err := CPUTime(1 << 22); err == nil {
		t.Error("a process that cannot exist has a CPU clock")
	}
}

func TestParentOf(t *testing.T) {
	for stat, want := range map[string]int{
		"12 (etcd) S 7 1 1 0":            7,
		"12 (odd ) name (x)) S 42 1 1 0": 42,
		"12 (etcd)":                      -1,
		"":                               -1,
	} {
		if got := parentOf([]byte(stat)); got != want {
			t.Errorf("parent of %q = %d, want %d", stat, got, want)
		}
	}
}

func TestBusy(t *testing.T) {
	got, err := busy([]byte("cpu  100 20 30 5000 600 7 8 9 10 11\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))
	if err != nil || got != (100+20+30+7+8+9)*10*time.Millisecond {
		t.Errorf("busy = %v, %v: everything but idle and iowait, without guests, who count as users", got, err)
	}
	if _, err := busy([]byte("intr 1\n")); err == nil {
		t.Error("read a line that is none on CPUs")
	}
}

func TestForeign(t *testing.T) {
	now := time.Now()
	before := Usage{At: now, all: 10 * time.Second, owned: 4 * time.Second}
	after := Usage{At: now.Add(2 * time.Second), all: 13 * time.Second, owned: 5 * time.Second}
	if got := after.ForeignSince(before); got != 1 {
		t.Errorf("others kept %v CPUs busy, want 1", got)
	}
}

package gauge

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	now := time.Now()
	before := Reading{Usage{At: now, all: 10 * time.Second, owned: 4 * time.Second}, map[string]time.Duration{"server": time.Second, "client": 2 * time.Second}}
	after := Reading{Usage{At: now.Add(4 * time.Second), all: 18 * time.Second, owned: 10 * time.Second}, map[string]time.Duration{"server": 5 * time.Second, "client": 4 * time.Second}}
	got := after.Since(before)
	want := Split{Seconds: 4, By: map[string]float64{"server": 1, "client": 0.5}, Foreign: 0.5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("split (-want +got):\n%s", diff)
	}
	if got.Busy() != 2 {
		t.Errorf("%v CPUs were busy in all, want 2", got.Busy())
	}
	if got.Per("server", 100) != 40 {
		t.Errorf("%v ms of the server for each of 100, want 40", got.Per("server", 100))
	}
	if got.Per("server", 0) != 4000 {
		t.Errorf("%v ms for none, want all of it", got.Per("server", 0))
	}
}

func TestOwnSplit(t *testing.T) {
	self := Processes{"test": os.Getpid()}
	before, err := self.Take()
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
		continue
	}
	after, err := self.Take()
	if err != nil {
		t.Fatal(err)
	}
	if used := after.Since(before).By["test"]; used <= 0 {
		t.Errorf("this process kept %v CPUs busy", used)
	}
	if _, err := (Processes{"nobody": 1 << 22}).Take(); err == nil {
		t.Error("a process that cannot exist was read")
	}
}

func TestChild(t *testing.T) {
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	pid, err := Child("sleep")
	if err != nil || pid != command.Process.Pid {
		t.Errorf("Child = %d, %v, want %d", pid, err, command.Process.Pid)
	}
	if pid, err := Child("modelrights-of-nobody"); err == nil {
		t.Errorf("found process %d, which nobody started", pid)
	}
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func startSleep(t *testing.T) *exec.Cmd {
	t.Helper()
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill() //nolint:errcheck // it may have ended
		command.Wait()         //nolint:errcheck // it was killed
	})
	return command
}

func TestIdentityIsOneProcess(t *testing.T) {
	sleep := startSleep(t)
	identity, err := identify(sleep.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !identity.alive() {
		t.Error("a running process counts as dead")
	}
	recycled := identity
	recycled.Started = "1"
	if recycled.alive() {
		t.Error("a process with the number but not the start time of the recorded one counts as it")
	}
	if present, err := recycled.signal(syscall.SIGKILL); present || err != nil {
		t.Errorf("signalling a recycled number: %v, %v", present, err)
	}
	if !identity.alive() {
		t.Fatal("the wrong process was killed")
	}
	rebooted := identity
	rebooted.Boot += "x"
	if rebooted.alive() {
		t.Error("a process from before a reboot counts as alive")
	}
	if present, err := identity.signal(syscall.SIGKILL); !present || err != nil {
		t.Errorf("signalling the process: %v, %v", present, err)
	}
	sleep.Wait() //nolint:errcheck // it was killed
	if identity.alive() {
		t.Error("an ended process counts as alive")
	}
	if present, err := identity.signal(syscall.SIGKILL); present || err != nil {
		t.Errorf("signalling an ended process: %v, %v", present, err)
	}
}

func TestNobodyIsNotAlive(t *testing.T) {
	var none Identity
	if none.alive() {
		t.Error("no process counts as alive")
	}
	// Signalling process 0 would end the whole process group, this test included.
	if present, err := none.signal(syscall.SIGKILL); present || err != nil {
		t.Errorf("signalling no process: %v, %v", present, err)
	}
}

func TestIdentityRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids", "part.json")
	if identity, err := readIdentity(file); err != nil || identity != (Identity{}) {
		t.Fatalf("no record: %v, %v", identity, err)
	}
	want := Identity{PID: 7, Started: "123", Boot: "b"}
	if err := writeIdentity(file, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readIdentity(file); err != nil || got != want {
		t.Fatalf("read %v, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readIdentity(file); err == nil {
		t.Error("a damaged record is read without an error")
	}
}

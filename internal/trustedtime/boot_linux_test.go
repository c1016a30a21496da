package trustedtime

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestElapsedCountsSuspension: the kernel's uptime goes on while the machine is suspended, and so does the clock.
func TestElapsedCountsSuspension(t *testing.T) {
	content, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(content))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	if off := Machine().Elapsed() - time.Duration(seconds*float64(time.Second)); off.Abs() > 10*time.Second {
		t.Errorf("the clock differs by %v from the time since boot", off)
	}
}

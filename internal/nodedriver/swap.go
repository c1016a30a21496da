package nodedriver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// memory says whether the tmpfs is to be mounted noswap, or refuses because the key could reach a disk: from the tmpfs, or
// from the driver's own memory on the way there. Where one of the two is not kept from swap (tmpfs needs Linux 6.4, the
// driver CAP_IPC_LOCK) and nothing is swapped to, the key is safe for as long as nobody turns swap on.
func (d *Driver) memory() (noSwap bool, err error) {
	noSwap, err = d.options.Mounts.NoSwap()
	if err != nil {
		return false, status.Errorf(codes.Internal, "whether tmpfs can be kept from swap cannot be told: %v", err)
	}
	if noSwap && d.options.MemoryLocked {
		return true, nil
	}
	areas, err := d.options.SwapAreas()
	if err != nil {
		return false, status.Errorf(codes.Internal, "whether swap is in use cannot be told: %v", err)
	}
	return noSwap, refuseSwap(areas, noSwap)
}

// refuseSwap refuses to fetch a key where swap is on and either the kernel cannot keep a tmpfs from it, or the driver's
// memory is not locked.
func refuseSwap(areas []string, noSwap bool) error {
	if len(areas) == 0 {
		return nil
	}
	why, remedy := "its kernel cannot keep a tmpfs from swap", "to give it Linux 6.4 or newer"
	if noSwap {
		why, remedy = "the node driver could not lock its memory", "to give the driver's container CAP_IPC_LOCK, as it is installed"
	}
	return status.Errorf(codes.FailedPrecondition,
		"this node swaps to %s, and %s, so the key could reach a disk; ask your platform team to turn swap off on the node or %s",
		strings.Join(areas, ", "), why, remedy)
}

// ReadSwapAreas lists the files and devices that the kernel swaps to.
func ReadSwapAreas() ([]string, error) {
	text, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel that is built without swap
	}
	if err != nil {
		return nil, fmt.Errorf("read the swap areas: %w", err)
	}
	return parseSwapAreas(text), nil
}

// parseSwapAreas reads /proc/swaps: a heading, then an area a line, its name first, with blanks as \040 (proc(5)).
func parseSwapAreas(text []byte) []string {
	var areas []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for first := true; lines.Scan(); first = false {
		if fields := strings.Fields(lines.Text()); !first && len(fields) > 0 {
			areas = append(areas, fields[0])
		}
	}
	return areas
}

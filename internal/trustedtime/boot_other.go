//go:build !linux

package trustedtime

import "time"

var processBegan = time.Now()

// sinceBoot is the time since the process began. The operator runs on Linux; elsewhere it is only built.
func sinceBoot() time.Duration { return time.Since(processBegan) }

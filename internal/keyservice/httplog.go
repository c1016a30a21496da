package keyservice

import (
	stdlog "log"
	"strings"

	"github.com/go-logr/logr"
)

// httpErrorLog takes what net/http has to say, mostly failed handshakes, as debug lines: whoever reaches the port can
// cause them.
func httpErrorLog(log logr.Logger) *stdlog.Logger { return stdlog.New(lines{log}, "", 0) }

type lines struct{ log logr.Logger }

func (l lines) Write(p []byte) (int, error) {
	l.log.V(1).Info("HTTP server", "says", strings.TrimSpace(string(p)))
	return len(p), nil
}

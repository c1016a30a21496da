package keyservice

import (
	"testing"

	"github.com/onsi/gomega"

	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// What a release needs is read while the pod's token is reviewed, and not after that.
func TestReleaseReadsTogether(t *testing.T) {
	w := newWorld(t)
	read := func() int {
		w.livesMu.Lock()
		defer w.livesMu.Unlock()
		n := 0
		for _, kind := range []string{"Pod", "Namespace", "ModelLicense", "ModelGrants"} {
			n += w.lives[kind]
		}
		return n
	}
	w.reviewing = func(token string) {
		if token == podToken {
			gomega.NewWithT(t).Eventually(read, "10s", "1ms").Should(gomega.Equal(4), "while the token is reviewed")
		}
	}
	if answer := w.call(t); answer.Code != 200 {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	if n := read(); n != 4 {
		t.Errorf("read %d times", n)
	}
}

// A caller that names no namespace has no grants of all of them read.
func TestReadAheadOfNothing(t *testing.T) {
	w := newWorld(t)
	w.request.Volume = protocol.Volume{}
	if answer := w.call(t); answer.Code != 403 {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	if w.lives["ModelGrants"] > 0 {
		t.Error("the grants of all namespaces were read")
	}
}

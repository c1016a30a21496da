package nodedriver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// stopTimeout is how long calls under way may take when the driver stops.
const stopTimeout = 10 * time.Second

// Sockets are where kubelet reaches the driver. Unix bounds each path to 107 bytes.
type Sockets struct {
	// CSI is the path of the driver's own socket, as kubelet sees it.
	CSI string
	// Registration is the path of the socket through which kubelet finds the driver, in kubelet's plugins_registry.
	Registration string
}

// RegistrationSocket is the path of the registration socket in kubelet's plugins_registry.
func RegistrationSocket(directory string) string {
	return filepath.Join(directory, v1alpha1.CSIDriverName+"-reg.sock")
}

// Server serves a Driver to kubelet.
type Server struct {
	driver  *Driver
	sockets Sockets

	serving  atomic.Bool
	register registrar
}

// Run serves until the context ends or a socket fails. Sockets that an earlier run left are replaced, which makes
// kubelet register the driver anew.
func (s *Server) Run(ctx context.Context) error {
	driver := grpc.NewServer(grpc.UnaryInterceptor(s.observe))
	csi.RegisterIdentityServer(driver, s.driver)
	csi.RegisterNodeServer(driver, s.driver)
	register := grpc.NewServer()
	registration.RegisterRegistrationServer(register, &s.register)

	driverListener, err := listen(ctx, s.sockets.CSI)
	if err != nil {
		return err
	}
	defer driverListener.remove()
	// Kubelet calls back as soon as it sees the registration socket.
	registerListener, err := listen(ctx, s.sockets.Registration)
	if err != nil {
		return errors.Join(err, driverListener.Close())
	}
	defer registerListener.remove()
	running, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { s.driver.Run(running) })
	defer background.Wait()
	defer stop()
	failed := make(chan error, 2)
	go func() { failed <- driver.Serve(driverListener) }()
	go func() { failed <- register.Serve(registerListener) }()
	s.serving.Store(true)
	s.driver.options.Log.Info("Serving", "socket", s.sockets.CSI, "registration", s.sockets.Registration)

	select {
	case err = <-failed:
		err = fmt.Errorf("serve kubelet: %w", err)
	case <-ctx.Done():
	}
	s.serving.Store(false)
	// No call that was not yet made reaches the driver; those under way are finished.
	register.Stop()
	hurry := time.AfterFunc(stopTimeout, driver.Stop)
	defer hurry.Stop()
	driver.GracefulStop()
	return err
}

// socket is a listener that knows which file is its own.
type socket struct {
	net.Listener
	path string
	file os.FileInfo
}

// remove takes the socket's file away, which tells kubelet that the driver is gone, unless another run of the driver has
// put its own there: a driver that is force-deleted still ends while its successor serves.
func (s *socket) remove() {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path) // kubelet finds out on its next call
	}
}

// listen replaces whatever socket is at the path. Only root may connect.
func listen(ctx context.Context, path string) (*socket, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("create the directory of socket %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket %s: %w", path, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket %s: %w", path, err), listener.Close())
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find socket %s again: %w", path, err), listener.Close())
	}
	return &socket{Listener: listener, path: path, file: file}, nil
}

// Alive says whether kubelet can still reach the driver: its sockets have not been removed by somebody else. It says
// nothing before the sockets are first served.
func (s *Server) Alive() error {
	if !s.serving.Load() {
		return nil
	}
	for _, path := range []string{s.sockets.CSI, s.sockets.Registration} {
		if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSocket == 0 {
			return fmt.Errorf("socket %s is gone", path)
		}
	}
	return nil
}

// Ready says whether kubelet can register the driver and has not refused to.
func (s *Server) Ready() error {
	if !s.serving.Load() {
		return errors.New("the sockets are not served yet")
	}
	return errors.Join(s.Alive(), s.register.refused())
}

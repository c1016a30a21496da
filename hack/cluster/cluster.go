package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Cluster is one cluster on this machine: what it is set to, where it lives, and where progress is reported.
type Cluster struct {
	Settings
	Layout
	self string
	out  io.Writer
	born time.Time
}

// openCluster knows the cluster from what `up` recorded, or else from defaults and environment.
func openCluster(root string, getenv func(string) string, out io.Writer) (*Cluster, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's own file: %w", err)
	}
	dir := getenv("CLUSTER_DIR")
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("CLUSTER_DIR: %w", err)
		}
	}
	cluster := &Cluster{Layout: newLayout(root, dir), self: self, out: out, born: time.Now()}
	recorded, err := os.ReadFile(cluster.SettingsFile())
	if err == nil {
		if err := json.Unmarshal(recorded, &cluster.Settings); err != nil {
			return nil, fmt.Errorf("%s: remove the file if it is damaged: %w", cluster.SettingsFile(), err)
		}
		return cluster, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cluster.Settings, err = defaultSettings(cluster.tag()).override(getenv)
	return cluster, err
}

// exists says whether `up` has begun and `down` has not finished.
func (c *Cluster) exists() bool {
	_, err := os.Stat(c.SettingsFile())
	return err == nil
}

func (c *Cluster) recordSettings() error {
	data, err := json.MarshalIndent(c.Settings, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.SettingsFile(), append(data, '\n'), 0o644)
}

// say reports progress, with the time since the command began.
func (c *Cluster) say(format string, args ...any) {
	fmt.Fprintf(c.out, "[%5.1fs] %s\n", time.Since(c.born).Seconds(), fmt.Sprintf(format, args...))
}

// lock keeps other commands from changing the cluster until the returned function is called or the process ends.
func (c *Cluster) lock() (func(), error) {
	if err := os.MkdirAll(filepath.Dir(c.LockFile()), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(c.LockFile(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		c.say("another command is changing this cluster; waiting for it to finish")
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", c.LockFile(), err), file.Close())
	}
	return func() { file.Close() }, nil //nolint:errcheck // closing a lock file loses nothing
}

// await polls until check succeeds. It gives up when the time is over or one of the named parts has died.
func (c *Cluster) await(ctx context.Context, what string, limit time.Duration, check func(context.Context) error, needs ...string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		for _, name := range needs {
			if identity, readErr := readIdentity(c.PidFile(name)); readErr == nil && !identity.alive() {
				return fmt.Errorf("%s: %s has ended; the end of %s:\n%s", what, name, c.Log(name), c.logTail(name))
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("%s: %w", what, ctx.Err())
			}
			return fmt.Errorf("%s: not after %s: %w; logs are in %s", what, limit, err, c.Logs())
		case <-time.After(150 * time.Millisecond):
		}
	}
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// down removes the cluster and all its traces, in whatever state it is. Doing so twice is fine.
func (c *Cluster) down() error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if !c.exists() && !c.nodeRemains() && !isDir(c.Dir) {
		c.say("no cluster in %s", c.Dir)
		return nil
	}
	if err := c.remove(); err != nil {
		return err
	}
	c.say("the cluster is down; its logs are in %s", c.LastLogs)
	return nil
}

// nodeEvidence is what the records say about the node, read before the records are changed.
type nodeEvidence struct {
	claims Claims
	// proxyStarted says that kube-proxy was started, so that its tables are this cluster's.
	proxyStarted bool
	// dirApart says that the node's directory is not within the cluster's.
	dirApart bool
}

func (c *Cluster) evidence() (nodeEvidence, error) {
	claims, _, err := c.readClaims()
	if err != nil {
		return nodeEvidence{}, err
	}
	_, err = os.Stat(c.PidFile("kube-proxy"))
	return nodeEvidence{claims: claims, proxyStarted: err == nil, dirApart: c.NodeDir != c.Dir}, nil
}

// remove ends the parts, then takes away what they made. Nothing of the directory is deleted as
// long as something is still mounted in it, since that could be somebody's data.
func (c *Cluster) remove() error {
	evidence, err := c.evidence()
	if err != nil {
		return err
	}
	problems := c.stopAll(time.Second)
	if c.NodeParts {
		problems = append(problems, c.removeNode(evidence))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("the cluster is not fully removed; its state stays in %s, so that `down` can be tried again: %w", c.Dir, err)
	}
	if err := c.keepLogs(); err != nil {
		return fmt.Errorf("keep the logs: %w", err)
	}
	return removeUnmounted(c.Dir)
}

// stopAll ends all parts at the same time. A short grace will do: what they would save is about to be deleted.
func (c *Cluster) stopAll(grace time.Duration) []error {
	all := partsOf(c.Settings)
	problems := make([]error, len(all))
	var group sync.WaitGroup
	for i, p := range all {
		group.Go(func() { problems[i] = c.stop(p, grace) })
	}
	group.Wait()
	return problems
}

// keepLogs moves the logs to where they outlive the cluster, in place of those of the cluster before. An attempt that
// logged nothing leaves the earlier ones alone.
func (c *Cluster) keepLogs() error {
	if entries, err := os.ReadDir(c.Logs()); err != nil || len(entries) == 0 {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := os.RemoveAll(c.LastLogs); err != nil {
		return err
	}
	if err := os.Rename(c.Logs(), c.LastLogs); err != nil {
		return err
	}
	err := os.Rename(c.PodLogs(), filepath.Join(c.LastLogs, "pods"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

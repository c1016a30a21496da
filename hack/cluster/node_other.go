//go:build !linux

package main

import (
	"errors"
	"os"
)

var errNoNode = errors.New("a node needs Linux")

func capabilityObstacle() string                 { return "a node needs Linux" }
func joinFile(Settings) (string, error)          { return "", errNoNode }
func (c *Cluster) checkMachine() (host, error)   { return host{}, errNoNode }
func (c *Cluster) prepareNode() error            { return errNoNode }
func (c *Cluster) removeNode(nodeEvidence) error { return nil }
func (c *Cluster) nodeRemains() bool             { return false }
func removeUnmounted(dir string) error           { return os.RemoveAll(dir) }

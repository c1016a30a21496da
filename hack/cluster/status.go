package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"text/tabwriter"
	"time"
)

// errNotUp makes `status` fail without a message of its own: the table has said it.
var errNotUp = errors.New("the cluster is not fully up")

// status lists the parts and says whether the cluster does its work.
func (c *Cluster) status(ctx context.Context) error {
	if !c.exists() {
		return fmt.Errorf("no cluster in %s: start one with `up`", c.Dir)
	}
	table := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "PART\tPROCESS\tPORT\tSTATE")
	healthy := true
	line := func(name, process, port string, problem error) {
		state := "ready"
		if problem != nil {
			healthy, state = false, problem.Error()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name, process, port, state)
	}
	for _, p := range partsOf(c.Settings) {
		identity, err := readIdentity(c.PidFile(p.name))
		process, port := "-", "-"
		if number := p.port(c.Ports); number != 0 {
			port = fmt.Sprint(number)
		}
		switch {
		case err != nil:
		case identity.PID == 0:
			err = errors.New("stopped")
		case !identity.alive():
			err = errors.New("has ended; see `logs " + p.name + "`")
		default:
			process = fmt.Sprint(identity.PID)
			err = p.ready(ctx, c)
		}
		line(p.name, process, port, err)
	}
	if c.NodeParts {
		line("node "+c.NodeName, "-", "-", c.nodeReady(ctx))
		line("cluster DNS", "-", "-", c.dnsAvailable(ctx))
	} else {
		fmt.Fprintf(table, "node\t-\t-\tnone: %s\n", withoutNode)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if !healthy {
		return errNotUp
	}
	return nil
}

// startPart, stopPart and restartPart change one part of a cluster that is up, for tests of what happens then.
func (c *Cluster) startPart(ctx context.Context, name string) error {
	return c.change(name, func(p part) error {
		if err := c.start(p); err != nil {
			return err
		}
		return c.awaitPart(ctx, p.name)
	})
}

func (c *Cluster) stopPart(name string) error {
	return c.change(name, func(p part) error {
		if err := c.stop(p, 5*time.Second); err != nil {
			return err
		}
		c.say("%s is stopped", p.name)
		return nil
	})
}

func (c *Cluster) restartPart(ctx context.Context, name string) error {
	return c.change(name, func(p part) error {
		if err := c.stop(p, 5*time.Second); err != nil {
			return err
		}
		if err := c.start(p); err != nil {
			return err
		}
		return c.awaitPart(ctx, p.name)
	})
}

func (c *Cluster) change(name string, action func(part) error) error {
	if !c.exists() {
		return fmt.Errorf("no cluster in %s: start one with `up`", c.Dir)
	}
	p, err := findPart(c.Settings, name)
	if err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return action(p)
}

// logs prints the log of a part, of the last cluster if none is up. With follow it goes on until interrupted.
func (c *Cluster) logs(ctx context.Context, name string, follow bool) error {
	p, err := findPart(c.Settings, name)
	if err != nil {
		return err
	}
	file := c.Log(p.name)
	if !c.exists() {
		file = c.LastLogs + "/" + p.name + ".log"
	}
	if follow {
		tail := exec.CommandContext(ctx, "tail", "-n", "100", "-F", file)
		tail.Stdout, tail.Stderr = c.out, os.Stderr
		if err := tail.Run(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("follow %s: %w", file, err)
		}
		return nil
	}
	log, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("no log of %s: %w", p.name, err)
	}
	defer log.Close()
	_, err = io.Copy(c.out, log)
	return err
}

// printEnv prints the settings for a shell.
func (c *Cluster) printEnv() error {
	content, err := os.ReadFile(c.EnvFile())
	if err != nil {
		return fmt.Errorf("no cluster in %s: start one with `up`: %w", c.Dir, err)
	}
	_, err = c.out.Write(content)
	return err
}

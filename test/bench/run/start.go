package run

import (
	"context"
	"errors"

	"modelrights.dev/modelrights/test/bench/cluster"
	"modelrights.dev/modelrights/test/bench/gauge"
)

// Start builds the operator, unless a binary is given, and starts the API server with its etcd and more flags. The caller
// stops the plane; the operator is installed and started by it.
func (r *Run) Start(ctx context.Context, flags ...string) (*Started, error) {
	binary := r.options.operator
	if binary == "" {
		r.Log("building the operator")
		var err error
		if binary, err = cluster.BuildOperator(ctx, r.options.root, r.Dir); err != nil {
			return nil, err
		}
	}
	r.Log("starting the API server and etcd")
	plane, err := cluster.Start(r.options.root, r.options.assets, r.Dir, flags...)
	if err != nil {
		return nil, err
	}
	s := &Started{Plane: plane, run: r, binary: binary}
	if s.Machine, err = plane.Describe(r.load); err != nil {
		return nil, errors.Join(err, plane.Stop())
	}
	return s, nil
}

// Started is an API server that runs.
type Started struct {
	Plane   *cluster.ControlPlane
	Machine gauge.Machine

	run    *Run
	binary string
}

// Install installs the operator, and returns what starts it, as often as it is to be started, with more arguments.
func (s *Started) Install(ctx context.Context, args ...string) (start func() (*cluster.Operator, error), err error) {
	ports, err := cluster.FreePorts(s.Plane.Address)
	if err != nil {
		return nil, err
	}
	root := s.run.options.root
	if err := cluster.InstallOperator(ctx, s.Plane, root, ports); err != nil {
		return nil, err
	}
	return func() (*cluster.Operator, error) {
		return cluster.StartOperator(ctx, s.Plane, root, s.run.Dir, s.binary, ports, args...)
	}, nil
}

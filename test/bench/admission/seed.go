package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// writers is how many clients write at once.
const writers = 32

// seeder writes licences and grants.
type seeder struct {
	plane *controlPlane
	etcd  *etcd
	// end is when all licences end.
	end time.Time
	// identity is the key of every licence.
	identity string
	// direct seeders write what follows the first licences into etcd; the others create everything.
	direct bool
	// written is how many licences there are.
	written int
}

func newSeeder(p *controlPlane, direct bool) (*seeder, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return &seeder{
		plane: p, etcd: newEtcd(strings.TrimSuffix(p.environment.ControlPlane.Etcd.URL.String(), "/")),
		end: time.Now().Add(365 * 24 * time.Hour).Truncate(time.Second), identity: identity.String(), direct: direct,
	}, nil
}

// grow brings the number of licences to n, each with its grants and the Secret of its key. The first are created through
// the API server. The others are copies of the first, under other names and UIDs, in the state to which the operator has
// brought that by then: through the API server, 10,000 licences and 100,000 grants and the operator's status of each
// take a quarter of an hour on two CPUs, and that is not what is measured here.
func (s *seeder) grow(ctx context.Context, n int) error {
	var tenants []client.Object
	for i := range namespaces(n) {
		if s.written == 0 || i >= namespaces(s.written) {
			tenants = append(tenants, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenantNamespace(i)}})
		}
	}
	if err := s.createAll(ctx, tenants); err != nil {
		return err
	}
	var secrets, licenses, grants []client.Object
	for i := s.written; i < n; i++ {
		secrets = append(secrets, keySecret(i, s.identity))
		licenses = append(licenses, license(i, s.end))
		for j := range grantsPerLicense {
			grants = append(grants, grant(i, j, n))
		}
	}
	if err := s.createAll(ctx, secrets); err != nil {
		return err
	}
	create := s.createAll
	if s.copies() {
		create = s.copyAll
	}
	for _, objects := range [][]client.Object{licenses, grants} {
		if err := create(ctx, objects); err != nil {
			return err
		}
	}
	s.written = n
	return nil
}

// copies says whether grow writes into etcd from now on.
func (s *seeder) copies() bool { return s.direct && s.written > 0 }

func (s *seeder) createAll(ctx context.Context, objects []client.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, o := range objects {
		group.Go(func() error { return s.plane.create(ctx, o) })
	}
	return group.Wait()
}

// copyAll writes copies of the first licence, or of its second grant, for each of the objects.
func (s *seeder) copyAll(ctx context.Context, objects []client.Object) error {
	var of client.Object = license(0, s.end)
	if objects[0].GetNamespace() != "" {
		of = grant(0, 1, licensesAtFirst)
	}
	stored, err := s.etcd.get(ctx, storageKey(of))
	if err != nil {
		return err
	}
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(stored, &meta); err != nil {
		return fmt.Errorf("%s in etcd: %w", client.ObjectKeyFromObject(of), err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, o := range objects {
		group.Go(func() error {
			return s.etcd.put(ctx, pair{Key: []byte(storageKey(o)), Value: renamed(stored, &meta, o)})
		})
	}
	return group.Wait()
}

// storageKey is where the API server keeps an object of ours.
func storageKey(o client.Object) string {
	if o.GetNamespace() == "" {
		return "/registry/modelrights.dev/modellicenses/" + o.GetName()
	}
	return "/registry/modelrights.dev/modelgrants/" + o.GetNamespace() + "/" + o.GetName()
}

// renamed is a stored first licence or grant of it as that of another, whose names have the same form everywhere.
func renamed(stored []byte, original *metav1.PartialObjectMetadata, o client.Object) []byte {
	var number int
	fmt.Sscanf(strings.TrimPrefix(o.GetName(), "model-"), "%d", &number) //nolint:errcheck // names are made by licenseName
	pairs := []string{
		string(original.UID), uuid.NewString(),
		original.Name, o.GetName(),
		licenseName(0), licenseName(number),
		licensorName(0), licensorName(number),
	}
	if original.Namespace != "" {
		pairs = append(pairs, `"`+original.Namespace+`"`, `"`+o.GetNamespace()+`"`)
	}
	return []byte(strings.NewReplacer(pairs...).Replace(string(stored)))
}

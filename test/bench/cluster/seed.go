package cluster

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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
)

// Writers is how many clients write at once.
const Writers = 32

// Seeder writes licences and grants.
type Seeder struct {
	plane *ControlPlane
	etcd  *etcd
	// Pods is the namespace of the pods that are measured, Limits are those of each licence. Set them before Grow.
	Pods   string
	Limits corev1.ResourceList
	// Amend is given each licence and grant that is a copy, to say more in its status. Optional.
	Amend func(client.Object)
	// end is when all licences end.
	end time.Time
	// identity is the key of every licence.
	identity string
	// direct seeders write what follows the first licences into etcd; the others create everything.
	direct bool
	// written is how many licences there are.
	written int
}

// NewSeeder returns one that writes into etcd, or creates everything through the API server.
func NewSeeder(p *ControlPlane, direct bool) (*Seeder, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return &Seeder{
		plane: p, etcd: newEtcd(strings.TrimSuffix(p.environment.ControlPlane.Etcd.URL.String(), "/")),
		end: inForce(), identity: identity.String(), direct: direct,
	}, nil
}

// Grow brings the number of licences to n, each with its grants and the Secret of its key. The first are created through
// the API server. The others are copies of the first, under other names and UIDs, in the state to which the operator has
// brought that by then: through the API server, 10,000 licences and 100,000 grants and the operator's status of each
// take a quarter of an hour on two CPUs, and that is not what is measured here.
func (s *Seeder) Grow(ctx context.Context, n int) error {
	var tenants []client.Object
	for i := range namespaces(n) {
		if s.written == 0 || i >= namespaces(s.written) {
			tenants = append(tenants, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: TenantNamespace(i)}})
		}
	}
	if err := s.CreateAll(ctx, tenants); err != nil {
		return err
	}
	var secrets, licenses, grants []client.Object
	for i := s.written; i < n; i++ {
		secrets = append(secrets, keySecret(i, s.identity))
		licenses = append(licenses, s.license(i))
		for j := range GrantsPerLicense {
			grants = append(grants, s.grant(i, j, n))
		}
	}
	if err := s.CreateAll(ctx, secrets); err != nil {
		return err
	}
	create := s.CreateAll
	if s.Copies() {
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

// Copies says whether grow writes into etcd from now on.
func (s *Seeder) Copies() bool { return s.direct && s.written > 0 }

// CreateAll creates objects through the API server, several at once.
func (s *Seeder) CreateAll(ctx context.Context, objects []client.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(Writers)
	for _, o := range objects {
		group.Go(func() error { return s.plane.Create(ctx, o) })
	}
	return group.Wait()
}

// copyAll writes copies of the first licence, or of its second grant, for each of the objects.
func (s *Seeder) copyAll(ctx context.Context, objects []client.Object) error {
	var of client.Object = s.license(0)
	if objects[0].GetNamespace() != "" {
		of = s.grant(0, 1, LicensesAtFirst)
	}
	stored, err := s.etcd.Get(ctx, StorageKey(of))
	if err != nil {
		return err
	}
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(stored, &meta); err != nil {
		return fmt.Errorf("%s in etcd: %w", client.ObjectKeyFromObject(of), err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(Writers)
	for _, o := range objects {
		group.Go(func() error {
			encoded, err := s.amended(o, renamed(stored, &meta, o))
			if err != nil {
				return err
			}
			return s.Put(ctx, o, encoded)
		})
	}
	return group.Wait()
}

// amended is a stored copy with what Amend says of it.
func (s *Seeder) amended(o client.Object, stored []byte) ([]byte, error) {
	if s.Amend == nil {
		return stored, nil
	}
	if err := json.Unmarshal(stored, o); err != nil {
		return nil, fmt.Errorf("copy %s: %w", client.ObjectKeyFromObject(o), err)
	}
	s.Amend(o)
	return json.Marshal(o)
}

// Put writes an object into etcd as it is, encoded as the API server stores it.
func (s *Seeder) Put(ctx context.Context, o client.Object, encoded []byte) error {
	return s.etcd.put(ctx, pair{Key: []byte(StorageKey(o)), Value: encoded})
}

// License is the i-th licence as Grow makes it.
func (s *Seeder) License(i int) *v1alpha1.ModelLicense { return s.license(i) }

// Grant is the j-th grant of the i-th licence as Grow makes it when it brings licences to that number.
func (s *Seeder) Grant(i, j, licenses int) *v1alpha1.ModelGrant { return s.grant(i, j, licenses) }

// StorageKey is where the API server keeps an object of ours, or a pod.
func StorageKey(o client.Object) string {
	switch o.(type) {
	case *v1alpha1.ModelLicense:
		return "/registry/modelrights.dev/modellicenses/" + o.GetName()
	case *v1alpha1.ModelSeats:
		return "/registry/modelrights.dev/modelseats/" + o.GetName()
	case *v1alpha1.ModelGrant:
		return "/registry/modelrights.dev/modelgrants/" + o.GetNamespace() + "/" + o.GetName()
	default:
		return "/registry/pods/" + o.GetNamespace() + "/" + o.GetName()
	}
}

// UIDOf is the UID of a licence or a grant that is a copy.
func UIDOf(o client.Object) types.UID {
	return types.UID(uuid.NewSHA1(uuid.NameSpaceURL, []byte(StorageKey(o))).String())
}

// renamed is a stored first licence or grant of it as that of another, whose names have the same form everywhere.
func renamed(stored []byte, original *metav1.PartialObjectMetadata, o client.Object) []byte {
	var number int
	fmt.Sscanf(strings.TrimPrefix(o.GetName(), "model-"), "%d", &number) //nolint:errcheck // names are made by licenseName
	pairs := []string{
		string(original.UID), string(UIDOf(o)),
		original.Name, o.GetName(),
		LicenseName(0), LicenseName(number),
		LicensorName(0), LicensorName(number),
	}
	if original.Namespace != "" {
		pairs = append(pairs, `"`+original.Namespace+`"`, `"`+o.GetNamespace()+`"`)
	}
	return []byte(strings.NewReplacer(pairs...).Replace(string(stored)))
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/seats"
	"modelrights.dev/modelrights/internal/seats/count"
	"modelrights.dev/modelrights/test/bench/cluster"
)

// heldPerLicense is how many pods of a licence hold a seat at most: each is under a grant of its own.
const heldPerLicense = cluster.GrantsPerLicense - 1

// heldPod is a pod that runs and holds a seat.
type heldPod struct {
	namespace, name, license, node string
	uid                            types.UID
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// hold writes running pods with their seats into etcd: copies of one that went through admission and got its seat, in the
// state to which the operator and kubelet bring it, and ledgers as the operator writes them. The operator must be away.
func (b *bench) hold(ctx context.Context, template *corev1.Pod) ([]heldPod, error) {
	text, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	original, err := b.origin(ctx, template)
	if err != nil {
		return nil, err
	}
	encoder := protobuf.NewSerializer(b.plane.Client.Scheme(), b.plane.Client.Scheme())
	held := make([]heldPod, b.plan.Held)
	licenses := b.plan.Licenses - cluster.LicensesAtFirst
	statuses := &seatStatuses{byKey: map[string]seatsSaid{}}
	b.seeder.Amend = statuses.amend
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cluster.Writers)
	for l := range licenses {
		group.Go(func() error {
			license := b.seeder.License(cluster.LicensesAtFirst + l)
			license.UID, license.Generation = cluster.UIDOf(license), original.generation
			ledger, pods := seats.Empty(license), map[types.UID]*corev1.Pod{}
			for i := l; i < len(held); i += licenses {
				j := 1 + i/licenses
				grant := b.seeder.Grant(cluster.LicensesAtFirst+l, j, b.plan.Licenses)
				pod, err := original.copy(text, license, grant, cluster.LicensesAtFirst+l, nodeName(i%b.plan.Nodes))
				if err != nil {
					return err
				}
				var encoded bytes.Buffer
				if err := encoder.Encode(pod, &encoded); err != nil {
					return fmt.Errorf("encoding a pod: %w", err)
				}
				if err := b.seeder.Put(ctx, pod, encoded.Bytes()); err != nil {
					return err
				}
				ledger.Apply(seats.Adopt{
					Pod: pod.UID, Grant: seats.Grant{Namespace: grant.Namespace, Name: grant.Name, UID: cluster.UIDOf(grant)},
					Amount: count.AmountOf(pod, license.Spec.Terms.Limits), Node: pod.Spec.NodeName, Since: pod.CreationTimestamp.Time,
				}, seats.Release{Pod: pod.UID, Node: pod.Spec.NodeName})
				pods[pod.UID] = pod
				held[i] = heldPod{namespace: pod.Namespace, name: pod.Name, license: license.Name, node: pod.Spec.NodeName, uid: pod.UID}
			}
			statuses.add(license, ledger, pods)
			return b.putLedger(ctx, license, ledger)
		})
	}
	return held, group.Wait()
}

func (b *bench) putLedger(ctx context.Context, license *v1alpha1.ModelLicense, ledger *seats.Ledger) error {
	stored := &v1alpha1.ModelSeats{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ModelSeats"},
		ObjectMeta: metav1.ObjectMeta{
			Name: license.Name, UID: types.UID(uuid.NewString()), CreationTimestamp: metav1.NewTime(time.Now().Truncate(time.Second)), Generation: 1,
		},
	}
	ledger.Encode(stored)
	encoded, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	return b.seeder.Put(ctx, stored, encoded)
}

// origin is what a pod that is copied says of itself, its licence and its grant.
type origin struct {
	pod                    *corev1.Pod
	licenseMark, imageMark string
	// generation is that of the licence, which copies of it have too. A ledger that was counted by another is written anew.
	generation int64
}

// origin looks up what the template's condition speaks of. Its marks are hashes, which the copies need of their own: where
// they are made otherwise by now, the operator would write the conditions of all copies anew.
func (b *bench) origin(ctx context.Context, template *corev1.Pod) (*origin, error) {
	var license v1alpha1.ModelLicense
	if err := b.plane.Client.Get(ctx, client.ObjectKey{Name: cluster.LicenseName(0)}, &license); err != nil {
		return nil, err
	}
	o := &origin{pod: template, licenseMark: licenseMark(license.UID, cluster.Image(0)), imageMark: imageMark(cluster.Image(0)), generation: license.Generation}
	i := slices.IndexFunc(template.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == v1alpha1.PodConditionLicensed })
	if i < 0 || !strings.Contains(template.Status.Conditions[i].Message, o.licenseMark) || !strings.Contains(template.Status.Conditions[i].Message, o.imageMark) {
		return nil, fmt.Errorf("the condition of pod %s does not have the marks %s and %s: %v", template.Name, o.licenseMark, o.imageMark, template.Status.Conditions)
	}
	return o, nil
}

func licenseMark(uid types.UID, image string) string { return mark(string(uid), image) }
func imageMark(image string) string                  { return mark("admitted image", image) }

// mark is as the operator's pod controller makes it.
func mark(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return fmt.Sprintf("%x", sum[:6])
}

// copy is the pod under another name, of another licence and grant, on a node.
func (o *origin) copy(text []byte, license *v1alpha1.ModelLicense, grant *v1alpha1.ModelGrant, number int, node string) (*corev1.Pod, error) {
	name := "held-" + grant.Name
	replaced := strings.NewReplacer(
		string(o.pod.UID), uuid.NewString(),
		o.pod.Name, name,
		o.licenseMark, licenseMark(license.UID, cluster.Image(number)), o.imageMark, imageMark(cluster.Image(number)),
		cluster.GrantName(0, 0), grant.Name,
		cluster.LicenseName(0), license.Name,
		cluster.LicensorName(0), cluster.LicensorName(number),
		`"`+o.pod.Namespace+`"`, `"`+grant.Namespace+`"`,
	).Replace(string(text))
	pod := &corev1.Pod{}
	if err := json.Unmarshal([]byte(replaced), pod); err != nil {
		return nil, fmt.Errorf("copying a pod: %w", err)
	}
	pod.APIVersion, pod.Kind, pod.ResourceVersion = "v1", "Pod", ""
	pod.Spec.NodeName, pod.Status.Phase = node, corev1.PodRunning
	// What kubelet says of a pod that runs.
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	report := func(containers []corev1.Container) []corev1.ContainerStatus {
		var statuses []corev1.ContainerStatus
		for _, c := range containers {
			statuses = append(statuses, corev1.ContainerStatus{
				Name: c.Name, Image: c.Image, ImageID: fmt.Sprintf("%s@sha256:%x", c.Image[:strings.LastIndexByte(c.Image, ':')], sha256.Sum256([]byte(c.Image))),
				ContainerID: "containerd://" + string(pod.UID) + "/" + c.Name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			})
		}
		return statuses
	}
	pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = report(pod.Spec.InitContainers), report(pod.Spec.Containers)
	return pod, nil
}

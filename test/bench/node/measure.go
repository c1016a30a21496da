package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/test/builders"
)

// mounts are samples of pairs: a pod with a key, and the same pod with a Secret, one after the other.
type mounts struct{ key, secret, later []time.Duration }

// keyPod mounts the sealed model of a licensed repository, secretPod the same from an ungoverned one, with the key in a
// Secret.
func (w *world) keyPod(name string) *corev1.Pod {
	return brief(builders.Pod(namespace, name).ServiceAccount(account).Container("main", w.server).ImageVolume("model", w.sealed, "main").Obj())
}

func (w *world) secretPod(name string) *corev1.Pod {
	pod := brief(builders.Pod(namespace, name).ServiceAccount(account).Container("main", w.server).ImageVolume("model", w.plain, "main").Obj())
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "key", VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: secretName},
	}})
	pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "key", MountPath: "/key"})
	return pod
}

func brief(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.TerminationGracePeriodSeconds = ptr.To(int64(0))
	return pod
}

// volumeFile is where on the node a file of a pod's volume is.
func (w *world) volumeFile(pod *corev1.Pod, plugin, volume, file string) string {
	return filepath.Join(w.kubeletDir, "pods", string(pod.UID), "volumes", plugin, volume, file)
}

func (w *world) keyFile(pod *corev1.Pod) string {
	return w.volumeFile(pod, "kubernetes.io~csi", v1alpha1.VolumeNamePrefix+license, filepath.Join("mount", v1alpha1.KeyFileName))
}

// mounted starts pairs of pods, one pod at a time, in an order that alternates.
func (w *world) mounted(ctx context.Context, pairs int) (mounts, error) {
	var m mounts
	grant, err := w.grant(ctx, "mounts")
	if err != nil {
		return m, err
	}
	for i := range pairs + 1 {
		var key, secret time.Duration
		kinds := []struct {
			pod  *corev1.Pod
			file func(*corev1.Pod) string
			took *time.Duration
		}{
			{w.keyPod(fmt.Sprintf("key-%d", i)), w.keyFile, &key},
			{w.secretPod(fmt.Sprintf("secret-%d", i)), func(p *corev1.Pod) string {
				return w.volumeFile(p, "kubernetes.io~secret", "key", v1alpha1.DefaultSecretKey)
			}, &secret},
		}
		if i%2 == 1 {
			kinds[0], kinds[1] = kinds[1], kinds[0]
		}
		for _, kind := range kinds {
			if *kind.took, err = w.startOne(ctx, kind.pod, kind.file); err != nil {
				return m, err
			}
		}
		if i == 0 {
			continue // images were pulled and connections made
		}
		m.key, m.secret, m.later = append(m.key, key), append(m.secret, secret), append(m.later, key-secret)
	}
	return m, w.api.Delete(ctx, grant)
}

// startOne creates a pod, says how long it took until its file was on the node, and removes it.
func (w *world) startOne(ctx context.Context, pod *corev1.Pod, file func(*corev1.Pod) string) (time.Duration, error) {
	started := time.Now()
	if err := w.api.Create(ctx, pod); err != nil {
		return 0, fmt.Errorf("creating pod %s: %w", pod.Name, err)
	}
	took, err := untilSize(ctx, file(pod), started, func(size int64) bool { return size > 0 })
	if err != nil {
		return 0, fmt.Errorf("pod %s has no file: %w", pod.Name, err)
	}
	return took, w.remove(ctx, pod)
}

// wiped deletes a grant under running pods, time and again.
func (w *world) wiped(ctx context.Context, rounds, pods int) ([]time.Duration, error) {
	var samples []time.Duration
	for round := range rounds {
		grant, err := w.grant(ctx, fmt.Sprintf("round-%d", round))
		if err != nil {
			return nil, err
		}
		var running []*corev1.Pod
		for i := range pods {
			pod := w.keyPod(fmt.Sprintf("round-%d-%d", round, i))
			if err := w.api.Create(ctx, pod); err != nil {
				return nil, fmt.Errorf("creating pod %s: %w", pod.Name, err)
			}
			running = append(running, pod)
		}
		for _, pod := range running {
			if err := w.until(ctx, "pod "+pod.Name+" runs", func() (bool, error) {
				err := w.api.Get(ctx, client.ObjectKeyFromObject(pod), pod)
				return pod.Status.Phase == corev1.PodRunning, err
			}); err != nil {
				return nil, err
			}
		}
		took, err := w.revoke(ctx, grant, running)
		if err != nil {
			return nil, err
		}
		samples = append(samples, took...)
		if err := w.remove(ctx, running...); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// revoke deletes the grant and says for each pod how long it took until its key was wiped.
func (w *world) revoke(ctx context.Context, grant *v1alpha1.ModelGrant, running []*corev1.Pod) ([]time.Duration, error) {
	took, errs := make([]time.Duration, len(running)), make([]error, len(running))
	started := time.Now()
	var group sync.WaitGroup
	for i, pod := range running {
		group.Go(func() {
			took[i], errs[i] = untilSize(ctx, w.keyFile(pod), started, func(size int64) bool { return size == 0 })
		})
	}
	err := w.api.Delete(ctx, grant)
	group.Wait()
	return took, errors.Join(err, errors.Join(errs...))
}

// untilSize waits until a file has a size that is wanted; one that is not there has 0.
func untilSize(ctx context.Context, file string, started time.Time, wanted func(int64) bool) (time.Duration, error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		size := int64(0)
		if info, err := os.Stat(file); err == nil {
			size = info.Size()
		}
		if wanted(size) {
			return time.Since(started), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("file %s has %d bytes: %w", file, size, ctx.Err())
		}
	}
}

// remove deletes pods and waits until they are gone.
func (w *world) remove(ctx context.Context, pods ...*corev1.Pod) error {
	for _, pod := range pods {
		if err := w.api.Delete(ctx, pod); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting pod %s: %w", pod.Name, err)
		}
	}
	for _, pod := range pods {
		if err := w.until(ctx, "pod "+pod.Name+" is gone", func() (bool, error) {
			err := w.api.Get(ctx, client.ObjectKeyFromObject(pod), &corev1.Pod{})
			return err != nil, client.IgnoreNotFound(err)
		}); err != nil {
			return err
		}
	}
	return nil
}

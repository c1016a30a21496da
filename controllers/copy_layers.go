package controllers

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
	ctrl "sigs.k8s.io/controller-runtime"

	"modelrights.dev/modelrights/internal/copies"
	"modelrights.dev/modelrights/internal/registry"
)

const (
	// layerWorkers is how many images are asked for at once; the registry client limits the rate.
	layerWorkers = 2
	// layerTimeout bounds one question, layerAttempts how often it is asked before it rests for layerRest.
	layerTimeout  = 30 * time.Second
	layerAttempts = 6
	layerRest     = time.Hour
	// maxLayerAnswers bounds the images whose layers are remembered, maxLayerQuestions those that wait to be asked for.
	maxLayerAnswers   = 2048
	maxLayerQuestions = 4096
)

// copyLayers learns from registries what running images consist of, beside the workers that ask for it. It asks for each
// digest once, whatever the number of pods that run it.
type copyLayers struct {
	source registry.Layers
	clock  clock.PassiveClock
	queue  workqueue.TypedRateLimitingInterface[string] // of digests

	mu        sync.Mutex
	answers   *lru.Cache // of layerAnswer, by digest
	questions map[string]*layerQuestion
	// epoch counts the changes of licences, after which a host may be asked that was not before.
	epoch int
}

type layerAnswer struct {
	manifests []copies.Manifest
	// until is when an image that could not be read is asked for again; zero where it was read.
	until time.Time
	// epoch is until which change of licences the host is not asked by us; -1 where it was asked.
	epoch int
}

type layerQuestion struct {
	// image is the reference by which it is asked for, of the pod that asked first.
	image string
	pods  map[PodRef]bool
}

func newCopyLayers(source registry.Layers, clock clock.PassiveClock) *copyLayers {
	return &copyLayers{
		source: source, clock: clock,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Second, 10*time.Minute),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "copy-layers"}),
		answers: lru.New(maxLayerAnswers), questions: map[string]*layerQuestion{},
	}
}

// of returns what is known of an image. Where nothing is, it is asked for on behalf of the pod; again is when to call
// again, where nobody would wake the pod before; zero where the answer is final.
func (l *copyLayers) of(image runningImage, pod PodRef) (manifests []copies.Manifest, again time.Duration) {
	if image.pulled == "" {
		return nil, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if value, ok := l.answers.Get(image.digest); ok {
		answer, _ := value.(layerAnswer)
		if answer.until.IsZero() {
			return answer.manifests, 0
		}
		rest := answer.until.Sub(l.clock.Now())
		if rest > 0 && (answer.epoch < 0 || answer.epoch == l.epoch) {
			return nil, rest
		}
	}
	question := l.questions[image.digest]
	if question == nil {
		if len(l.questions) >= maxLayerQuestions {
			return nil, time.Minute
		}
		question = &layerQuestion{image: image.pulled, pods: map[PodRef]bool{}}
		l.questions[image.digest] = question
		l.queue.Add(image.digest)
	}
	question.pods[pod] = true
	return nil, layerRest
}

// changed says that hosts may be asked that were refused before.
func (l *copyLayers) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
}

// run asks until ctx ends, and wakes the pods that an answer is for.
func (l *copyLayers) run(ctx context.Context, wake func(PodRef)) {
	go func() {
		<-ctx.Done()
		l.queue.ShutDown()
	}()
	for range layerWorkers {
		go func() {
			for {
				digest, shutdown := l.queue.Get()
				if shutdown {
					return
				}
				for _, pod := range l.ask(ctx, digest) {
					wake(pod)
				}
				l.queue.Done(digest)
			}
		}()
	}
}

// ask puts one question, and returns the pods to be woken once it is answered.
func (l *copyLayers) ask(ctx context.Context, digest string) []PodRef {
	l.mu.Lock()
	question, epoch := l.questions[digest], l.epoch
	l.mu.Unlock()
	if question == nil {
		return nil
	}
	askCtx, cancel := context.WithTimeout(ctx, layerTimeout)
	manifests, err := l.source.Layers(askCtx, question.image)
	cancel()
	answer := layerAnswer{manifests: manifests, epoch: -1}
	var backoff *registry.BackoffError
	switch {
	case err == nil:
	case errors.Is(err, registry.ErrNotAllowed):
		answer = layerAnswer{until: l.clock.Now().Add(layerRest), epoch: epoch}
	case errors.As(err, &backoff):
		l.queue.AddAfter(digest, max(time.Second, backoff.Until.Sub(l.clock.Now())))
		return nil
	case !errors.Is(err, registry.ErrNotFound) && l.queue.NumRequeues(digest) < layerAttempts:
		ctrl.LoggerFrom(ctx).V(1).Info("The layers of an image cannot be read", "image", question.image, "reason", err.Error())
		l.queue.AddRateLimited(digest)
		return nil
	default:
		answer = layerAnswer{until: l.clock.Now().Add(layerRest), epoch: -1}
	}
	l.queue.Forget(digest)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers.Add(digest, answer)
	delete(l.questions, digest)
	if answer.until.IsZero() {
		pods := make([]PodRef, 0, len(question.pods))
		for pod := range question.pods {
			pods = append(pods, pod)
		}
		return pods
	}
	return nil
}

package controllers

import (
	"crypto/sha256"
	"encoding/json"
	"runtime"
	"slices"
	"sync"
	"unique"
	"unsafe"
	"weak"

	"k8s.io/utils/lru"
)

// shared is the one copy of a string that all who ask for it have while any of them is new.
func shared[S ~string](s S) S { return unique.Make(s).Value() }

// sharedSlices hands out one copy of slices that say the same, for as long as anybody has it: the pods of a workload, and
// the grants of a licence, have nearly everything in common. Nobody may modify what it hands out. It is safe for
// concurrent use.
type sharedSlices[T any] struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]weakSlice[T]
}

// weakSlice is a slice that may be collected.
type weakSlice[T any] struct {
	first weak.Pointer[T]
	n     int
}

// one is the copy of a slice that all share. Elements that have the same JSON say the same.
func (s *sharedSlices[T]) one(of []T) []T {
	if len(of) == 0 {
		return nil
	}
	text, err := json.Marshal(of)
	if err != nil {
		return of
	}
	key := sha256.Sum256(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[key]; ok {
		if first := known.first.Value(); first != nil {
			return unsafe.Slice(first, known.n) //nolint:gosec // first is that of an array of n elements, all of which live as long as it does
		}
	}
	kept := slices.Clip(slices.Clone(of))
	if s.known == nil {
		s.known = map[[sha256.Size]byte]weakSlice[T]{}
	}
	s.known[key] = weakSlice[T]{weak.Make(&kept[0]), len(kept)}
	runtime.AddCleanup(&kept[0], s.collected, key)
	return kept
}

// collected forgets a slice that nobody has any more.
func (s *sharedSlices[T]) collected(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[key]; ok && known.first.Value() == nil {
		delete(s.known, key)
	}
}

// maxSharedMaps is how many maps a sharedMaps remembers. Objects that are alike come one after another, mostly.
const maxSharedMaps = 4096

// sharedMaps hands out one copy of maps that say the same, if they were asked for lately. Nobody may modify what it hands
// out. It is safe for concurrent use.
type sharedMaps[M ~map[K]V, K ~string, V any] struct{ known *lru.Cache }

func newSharedMaps[M ~map[K]V, K ~string, V any]() sharedMaps[M, K, V] {
	return sharedMaps[M, K, V]{lru.New(maxSharedMaps)}
}

// one is the copy of a map that all share. Those that have the same JSON say the same.
func (s sharedMaps[M, K, V]) one(of M) M {
	if len(of) == 0 {
		return nil
	}
	text, err := json.Marshal(of)
	if err != nil {
		return of
	}
	key := sha256.Sum256(text)
	if known, ok := s.known.Get(key); ok {
		if m, ok := known.(M); ok {
			return m
		}
	}
	kept := make(M, len(of))
	for k, v := range of {
		kept[shared(k)] = v
	}
	s.known.Add(key, kept)
	return kept
}

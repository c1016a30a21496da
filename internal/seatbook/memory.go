package seatbook

import (
	"container/list"
	"sync"
)

// memory keeps the ledgers that were written last.
type memory struct {
	mu    sync.Mutex
	limit int
	order *list.List // of remembered, the newest first
	byKey map[string]*list.Element
}

type remembered struct {
	license string
	stored  stored
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, order: list.New(), byKey: map[string]*list.Element{}}
}

func (m *memory) get(license string) (stored, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byKey[license]
	if !ok {
		return stored{}, false
	}
	m.order.MoveToFront(e)
	return e.Value.(remembered).stored, true
}

func (m *memory) put(license string, s stored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byKey[license]; ok {
		e.Value = remembered{license, s}
		m.order.MoveToFront(e)
		return
	}
	m.byKey[license] = m.order.PushFront(remembered{license, s})
	for m.order.Len() > m.limit {
		last := m.order.Back()
		delete(m.byKey, m.order.Remove(last).(remembered).license)
	}
}

func (m *memory) forget(license string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byKey[license]; ok {
		m.order.Remove(e)
		delete(m.byKey, license)
	}
}

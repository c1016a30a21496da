package controllers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// SeatStep is a point between "sees gated pod" and "gate removed", or in taking that back, at which an operator may end.
type SeatStep string

// All steps, in the order in which a pod gets to them. At each of them an operator can be killed, and what it leaves behind
// is put right by the next. SeatSteps lists them.
const (
	// StepSeen: a gated pod was seen, and nothing done about it.
	StepSeen SeatStep = "Seen"
	// StepPlanned: the pod is to take its seats.
	StepPlanned SeatStep = "Planned"
	// StepBeforeTake and StepAfterTake: before and after each write of a ledger.
	StepBeforeTake SeatStep = "BeforeTake"
	StepAfterTake  SeatStep = "AfterTake"
	// StepBeforeAudit and StepAfterAudit: before and after each entry is durable.
	StepBeforeAudit SeatStep = "BeforeAudit"
	StepAfterAudit  SeatStep = "AfterAudit"
	// StepBeforeCondition and StepAfterCondition: before and after the pod's condition is written.
	StepBeforeCondition SeatStep = "BeforeCondition"
	StepAfterCondition  SeatStep = "AfterCondition"
	// StepBeforeUngate and StepAfterUngate: before and after the gate is removed.
	StepBeforeUngate SeatStep = "BeforeUngate"
	StepAfterUngate  SeatStep = "AfterUngate"
	// StepBeforeMark and StepAfterMark: before and after a seat that is to be given back is marked so in the ledger.
	StepBeforeMark SeatStep = "BeforeMark"
	StepAfterMark  SeatStep = "AfterMark"
	// StepBeforeTouch and StepAfterTouch: before and after the pod is touched, so that nobody removes its gate by what was
	// read earlier.
	StepBeforeTouch SeatStep = "BeforeTouch"
	StepAfterTouch  SeatStep = "AfterTouch"
	// StepBeforeGiveBack and StepAfterGiveBack: before and after the seat is given back.
	StepBeforeGiveBack SeatStep = "BeforeGiveBack"
	StepAfterGiveBack  SeatStep = "AfterGiveBack"
)

// SeatSteps are all steps.
func SeatSteps() []SeatStep {
	return []SeatStep{
		StepSeen, StepPlanned, StepBeforeTake, StepAfterTake, StepBeforeAudit, StepAfterAudit, StepBeforeCondition, StepAfterCondition,
		StepBeforeUngate, StepAfterUngate, StepBeforeMark, StepAfterMark, StepBeforeTouch, StepAfterTouch, StepBeforeGiveBack, StepAfterGiveBack,
	}
}

// Interrupt is called at each step with the pod that gets there. Where it returns an error, nothing more is done for the pod
// then. It is for tests; nil never interrupts.
type Interrupt func(ctx context.Context, step SeatStep, pod types.NamespacedName) error

func (f Interrupt) at(ctx context.Context, step SeatStep, pod types.NamespacedName) error {
	if f == nil {
		return nil
	}
	if err := f(ctx, step, pod); err != nil {
		return fmt.Errorf("at step %s: %w", step, err)
	}
	return nil
}

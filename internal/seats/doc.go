// Package seats is the seat ledger of a licence and the queue before it: who holds a seat, whether there is room for
// another pod, what was used, and who is next. It is pure: it neither reads nor writes anything, and never asks for the
// time. Package seatbook stores what it makes.
//
// A ledger is changed by the Changes of this package alone. Each of them is idempotent: a change that was applied already
// changes nothing, so that a writer who does not know whether a write succeeded reads the ledger again and applies the
// same changes to what it finds.
//
// What a ledger holds:
//
//   - Pods count as the scheduler counts them (package count), each with what it counted for when it took its seat, or was
//     resized.
//   - A Regular holder fitted in the limits of licence and grant, together with everybody else, when it became one.
//   - Nodes in use are the distinct nodes that holders are bound to, and one more for each holder that is not bound yet and
//     may go anywhere. A holder that may only go to the nodes in use (Confined) counts for none; those nodes stay in use
//     until it is bound or gone.
//   - Usage is whole seconds from Since to the end. Of cpu, fractions of cores, and of memory, fractions of gibibytes are
//     kept, so that short and small pods add up without a rounding.
package seats

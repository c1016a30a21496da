// Package audit writes and reads the audit log: what was admitted, denied and released, in the order in which it was
// committed.
//
// An Entry is one thing that happened; its canonical JSON (RFC 8785) is the leaf of the log's Merkle tree (RFC 6962).
// Entries that happen together are committed together in one ModelAuditRecord, whose name is the index of its first
// entry: the API server lets one writer alone create a name, which makes create the compare-and-swap between
// replicas. A Log appends, Records reads, Denials keeps a tenant that is refused for ever from filling the log.
//
// What a reader may rely on: entries are never reordered once committed, no two records overlap, an entry whose Append
// returned without an error is in etcd. An entry whose Append failed may be in the log all the same: the log may hold
// more releases than happened, never fewer.
package audit

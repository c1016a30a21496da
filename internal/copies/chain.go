package copies

import "crypto/sha256"

// chain identifies a sequence of layers: a hash over them.
type chain [sha256.Size]byte

// begin is what an image begins with: its first layer, its first two, and so on to all of them.
type begin []chain

// beginsOf computes what an image begins with, by its layers' digests and, where every layer has one, by their diffIDs.
// It is empty for an image without layers, or with more than any runtime takes.
func beginsOf(m *Manifest) []begin {
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return nil
	}
	var begins []begin
	if b := beginOf("digest", m.Layers, func(l Layer) string { return l.Digest }); b != nil {
		begins = append(begins, b)
	}
	if b := beginOf("diffID", m.Layers, func(l Layer) string { return l.DiffID }); b != nil {
		begins = append(begins, b)
	}
	return begins
}

func beginOf(kind string, layers []Layer, id func(Layer) string) begin {
	last := chain(sha256.Sum256([]byte(kind)))
	b := make(begin, len(layers))
	for i, l := range layers {
		if id(l) == "" {
			return nil
		}
		last = sha256.Sum256(append(last[:], id(l)...))
		b[i] = last
	}
	return b
}

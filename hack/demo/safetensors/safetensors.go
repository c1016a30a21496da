// Package safetensors reads and writes model weights in the safetensors format
// (https://huggingface.co/docs/safetensors): the length of the header as 8 bytes in little-endian order, the header in
// JSON, then the tensors' bytes. It knows tensors of 32-bit floats, which is enough for the demo.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Tensor is a named array of numbers.
type Tensor struct {
	// Name is unique in a file.
	Name string
	// Shape is the length of each dimension.
	Shape []int
	// Data holds the numbers, the last dimension running fastest.
	Data []float32
}

const (
	lengthSize  = 8
	floatSize   = 4
	metadataKey = "__metadata__"
	// maxHeader is the format's own bound of the header, in bytes.
	maxHeader = 100_000_000
)

type entry struct {
	DType   string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"`
}

// Encode writes tensors, in the order given, and free-form metadata into a file.
func Encode(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	header := map[string]any{}
	if len(metadata) > 0 {
		header[metadataKey] = metadata
	}
	var data []byte
	for _, t := range tensors {
		if _, taken := header[t.Name]; taken || t.Name == metadataKey {
			return nil, fmt.Errorf("tensor %q: the name is taken", t.Name)
		}
		if count, err := elements(t.Shape); err != nil || count != len(t.Data) {
			return nil, fmt.Errorf("tensor %q: shape %v does not fit %d numbers", t.Name, t.Shape, len(t.Data))
		}
		start := len(data)
		for _, number := range t.Data {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(number))
		}
		header[t.Name] = entry{DType: "F32", Shape: t.Shape, Offsets: [2]int{start, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("write the header: %w", err)
	}
	// The format asks for tensors that start at a multiple of 8 bytes, and pads the header with spaces to get there.
	text = append(text, bytes.Repeat([]byte(" "), (lengthSize-len(text)%lengthSize)%lengthSize)...)
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return slices.Concat(file, text, data), nil
}

// Parse reads a file. As the format demands, the tensors must cover the data without gaps or overlaps, so that nothing
// hides in a file. The tensors are sorted by name.
func Parse(file []byte) ([]Tensor, error) {
	if len(file) < lengthSize {
		return nil, errors.New("no safetensors file: it is shorter than 8 bytes")
	}
	length := binary.LittleEndian.Uint64(file)
	if length > maxHeader || length > uint64(len(file)-lengthSize) {
		return nil, fmt.Errorf("no safetensors file: the header would be %d bytes long", length)
	}
	data := file[lengthSize+length:]
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(file[lengthSize:lengthSize+length], &raw); err != nil {
		return nil, fmt.Errorf("no safetensors file: read the header: %w", err)
	}
	delete(raw, metadataKey)
	entries := make(map[string]entry, len(raw))
	names := make([]string, 0, len(raw))
	for name, text := range raw {
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return nil, fmt.Errorf("tensor %q: read the header: %w", name, err)
		}
		entries[name] = e
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := entries[a].Offsets[0] - entries[b].Offsets[0]; d != 0 {
			return d
		}
		return entries[a].Offsets[1] - entries[b].Offsets[1]
	})
	tensors := make([]Tensor, 0, len(names))
	end := 0
	for _, name := range names {
		tensor, err := decode(name, entries[name], data, end)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		end = entries[name].Offsets[1]
		tensors = append(tensors, tensor)
	}
	if end != len(data) {
		return nil, fmt.Errorf("%d bytes belong to no tensor", len(data)-end)
	}
	slices.SortFunc(tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	return tensors, nil
}

// decode reads one tensor, which must start at the given offset in the data.
func decode(name string, e entry, data []byte, start int) (Tensor, error) {
	if e.DType != "F32" {
		return Tensor{}, fmt.Errorf("has type %q; only F32 is known here", e.DType)
	}
	count, err := elements(e.Shape)
	if err != nil {
		return Tensor{}, err
	}
	if e.Offsets[0] != start || e.Offsets[1] > len(data) || e.Offsets[1]-e.Offsets[0] != count*floatSize {
		return Tensor{}, fmt.Errorf("lies at %v of %d bytes, which is no place for shape %v", e.Offsets, len(data), e.Shape)
	}
	tensor := Tensor{Name: name, Shape: e.Shape, Data: make([]float32, count)}
	for i := range tensor.Data {
		tensor.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[start+i*floatSize:]))
	}
	return tensor, nil
}

// elements multiplies the dimensions, and refuses a product that does not fit any file.
func elements(shape []int) (int, error) {
	count := 1
	for _, dimension := range shape {
		if dimension < 0 || (dimension > 0 && count > math.MaxInt32/dimension) {
			return 0, fmt.Errorf("has shape %v, which is out of bounds", shape)
		}
		count *= dimension
	}
	return count, nil
}

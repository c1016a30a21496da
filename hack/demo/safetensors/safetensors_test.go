package safetensors

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	tensors := []Tensor{
		{Name: "bias", Shape: []int{2}, Data: []float32{0.5, -1}},
		{Name: "scalar", Shape: []int{}, Data: []float32{7}},
		{Name: "weight", Shape: []int{2, 3}, Data: []float32{1, 2, 3, 4, 5, 6}},
	}
	file, err := Encode(tensors, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	if length := binary.LittleEndian.Uint64(file); length%8 != 0 {
		t.Errorf("the header is %d bytes long, so the tensors are not aligned", length)
	}
	got, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, tensors) {
		t.Errorf("got %v, want %v", got, tensors)
	}
}

// TestParseHandWritten reads a file as another program might write it.
func TestParseHandWritten(t *testing.T) {
	got, err := Parse(file(`{"b":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}`,
		"\x00\x00\x80\x3f\x00\x00\x00\xc0"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Tensor{{"a", []int{1}, []float32{1}}, {"b", []int{1, 1}, []float32{-2}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, message string }{
		"empty":               {"", "shorter than 8"},
		"length beyond file":  {"\xff\x00\x00\x00\x00\x00\x00\x00{}", "would be 255"},
		"length huge":         {"\xff\xff\xff\xff\xff\xff\xff\xff{}", "would be"},
		"no JSON":             {string(file("{", "")), "read the header"},
		"wrong entry":         {string(file(`{"a":[]}`, "")), "read the header"},
		"other type":          {string(file(`{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}`, "xx")), "only F32"},
		"beyond the data":     {string(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, "1234")), "no place"},
		"shape does not fit":  {string(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "1234")), "no place"},
		"negative offset":     {string(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, "1234")), "no place"},
		"negative shape":      {string(file(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, "1234")), "out of bounds"},
		"overflowing shape":   {string(file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}`, "1234")), "out of bounds"},
		"overlap":             {string(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234")), "no place"},
		"gap between tensors": {string(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, "12345678")), "no place"},
		"gap at the end":      {string(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "12345")), "belong to no tensor"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got error %v, want %q", err, c.message)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	one := Tensor{Name: "a", Shape: []int{1}, Data: []float32{1}}
	for name, tensors := range map[string][]Tensor{
		"a name twice":    {one, one},
		"a reserved name": {{Name: "__metadata__", Shape: []int{1}, Data: []float32{1}}},
		"a wrong shape":   {{Name: "a", Shape: []int{2}, Data: []float32{1}}},
	} {
		if _, err := Encode(tensors, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234"))
	f.Fuzz(func(t *testing.T, in []byte) {
		tensors, err := Parse(in)
		if err != nil {
			return
		}
		numbers := 0
		for _, tensor := range tensors {
			numbers += len(tensor.Data)
		}
		if numbers*4 > len(in) {
			t.Errorf("%d numbers from %d bytes", numbers, len(in))
		}
	})
}

func file(header, data string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+data...)
}

package seal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
)

const chunk = 64 << 10

// sizes are lengths of plain files around the ends of age's chunks and of Load's spans.
var sizes = map[string]int{
	"empty": 0, "one byte": 1, "almost a chunk": chunk - 1, "a chunk": chunk, "just over a chunk": chunk + 1,
	"a span": span, "just over a span": span + 1, "several spans": 2*span + 3*chunk + 17,
}

func TestSealedFilesOpen(t *testing.T) {
	key := newKey(t)
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			plain := content(size)
			sealed := sealedBytes(t, plain, key.Recipient())
			if size >= 16 && bytes.Contains(sealed, plain[:16]) {
				t.Error("the sealed file holds plain bytes")
			}
			for how, open := range openers() {
				got, err := open(sealed, key)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if !bytes.Equal(got, plain) {
					t.Errorf("%s: got other bytes than were sealed", how)
				}
			}
		})
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	key := newKey(t)
	plain := content(3*chunk + 100)
	sealed := sealedBytes(t, plain, key.Recipient())
	flip := func(at int) []byte {
		damaged := bytes.Clone(sealed)
		damaged[at] ^= 1
		return damaged
	}
	header := bytes.Index(sealed, []byte("\n---")) + 1
	for name, damaged := range map[string][]byte{
		"empty":                      {},
		"not sealed at all":          plain,
		"cut off in the header":      sealed[:header],
		"cut off in a chunk":         sealed[:len(sealed)-2*chunk-7],
		"cut off after the header":   sealed[:len(sealed)-len(plain)-4*16],
		"last byte missing":          sealed[:len(sealed)-1],
		"last chunk missing":         sealed[:len(sealed)-100-16],
		"a byte appended":            append(bytes.Clone(sealed), 0),
		"a chunk appended":           append(bytes.Clone(sealed), make([]byte, chunk+16)...),
		"header changed":             flip(header - 5),
		"header's MAC changed":       flip(header + 10),
		"first chunk changed":        flip(len(sealed) - len(plain) - 3*16),
		"third chunk changed":        flip(len(sealed) - chunk),
		"last byte changed":          flip(len(sealed) - 1),
		"first two chunks exchanged": exchanged(sealed, len(sealed)-len(plain)-4*16, chunk+16),
	} {
		t.Run(name, func(t *testing.T) {
			for how, open := range openers() {
				got, err := open(damaged, key)
				if err == nil {
					t.Errorf("%s: no error, though the file is damaged", how)
				}
				if !bytes.HasPrefix(plain, got) {
					t.Errorf("%s: handed out bytes that were not sealed", how)
				}
				if how == "Load" && got != nil {
					t.Errorf("Load: handed out %d bytes of a damaged file", len(got))
				}
			}
		})
	}
}

func TestOpenAtReadsEverywhere(t *testing.T) {
	key := newKey(t)
	plain := content(5*chunk + 5)
	sealed := sealedBytes(t, plain, key.Recipient())
	file, err := OpenAt(bytes.NewReader(sealed), int64(len(sealed)), key)
	if err != nil {
		t.Fatal(err)
	}
	if file.Size() != int64(len(plain)) {
		t.Errorf("size is %d, want %d", file.Size(), len(plain))
	}
	var wait sync.WaitGroup
	for seed := range uint64(8) {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for range 50 {
				from := random.IntN(len(plain))
				got := make([]byte, random.IntN(len(plain)-from+1))
				if _, err := file.ReadAt(got, int64(from)); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("read %d bytes at %d: %v", len(got), from, err)
				}
				if !bytes.Equal(got, plain[from:from+len(got)]) {
					t.Errorf("other bytes at %d", from)
				}
			}
		})
	}
	wait.Wait()
}

func TestWrongKeyOpensNothing(t *testing.T) {
	sealed := sealedBytes(t, content(100), newKey(t).Recipient())
	wrong := newKey(t)
	for how, open := range openers() {
		got, err := open(sealed, wrong)
		if len(got) > 0 || err == nil || !strings.Contains(err.Error(), "not sealed for any of the keys") {
			t.Errorf("%s: got %d bytes and error %v", how, len(got), err)
		}
		if err != nil && strings.Contains(err.Error(), wrong.String()) {
			t.Errorf("%s: the error holds the key", how)
		}
		if _, err := open(sealed); err == nil {
			t.Errorf("%s: opened without a key", how)
		}
	}
}

func TestEachRecipientOpens(t *testing.T) {
	one, two := newKey(t), newKey(t)
	sealed := sealedBytes(t, content(100), one.Recipient(), two.Recipient())
	for name, key := range map[string]age.Identity{"first": one, "second": two} {
		if _, err := Load(bytes.NewReader(sealed), int64(len(sealed)), key); err != nil {
			t.Errorf("%s recipient: %v", name, err)
		}
	}
}

// TestFilesAreStandardAge reads with the age package itself what was sealed here, and the other way round.
func TestFilesAreStandardAge(t *testing.T) {
	key, plain := newKey(t), content(chunk+1)
	decrypted, err := age.Decrypt(bytes.NewReader(sealedBytes(t, plain, key.Recipient())), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(decrypted); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("age does not open what was sealed here: %v", err)
	}
	var foreign bytes.Buffer
	writer, err := age.Encrypt(&foreign, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	for how, open := range openers() {
		if got, err := open(foreign.Bytes(), key); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s does not open what age sealed: %v", how, err)
		}
	}
}

func TestSealReportsErrors(t *testing.T) {
	key, broken := newKey(t), errors.New("broken")
	if err := Seal(io.Discard, strings.NewReader("x")); err == nil {
		t.Error("sealed for nobody")
	}
	if err := Seal(io.Discard, io.MultiReader(strings.NewReader("x"), failing{broken}), key.Recipient()); !errors.Is(err, broken) {
		t.Errorf("source fails: got %v", err)
	}
	for allowed := range 4 {
		if err := Seal(&limited{writes: allowed, err: broken}, bytes.NewReader(content(chunk)), key.Recipient()); !errors.Is(err, broken) {
			t.Errorf("destination fails after %d writes: got %v", allowed, err)
		}
	}
}

// openers are the ways to open a sealed file. Each returns what it handed out, with an error too.
func openers() map[string]func([]byte, ...age.Identity) ([]byte, error) {
	return map[string]func([]byte, ...age.Identity) ([]byte, error){
		"Open": func(sealed []byte, keys ...age.Identity) ([]byte, error) {
			plain, err := Open(bytes.NewReader(sealed), keys...)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(plain)
		},
		"OpenAt": func(sealed []byte, keys ...age.Identity) ([]byte, error) {
			plain, err := OpenAt(bytes.NewReader(sealed), int64(len(sealed)), keys...)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(plain)
		},
		"Load": func(sealed []byte, keys ...age.Identity) ([]byte, error) {
			return Load(bytes.NewReader(sealed), int64(len(sealed)), keys...)
		},
	}
}

func newKey(t *testing.T) *age.HybridIdentity {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sealedBytes(t *testing.T, plain []byte, recipients ...*age.HybridRecipient) []byte {
	t.Helper()
	var sealed bytes.Buffer
	list := make([]age.Recipient, 0, len(recipients))
	for _, recipient := range recipients {
		list = append(list, recipient)
	}
	if err := Seal(&sealed, bytes.NewReader(plain), list...); err != nil {
		t.Fatal(err)
	}
	return sealed.Bytes()
}

// content is size bytes, the same at every call.
func content(size int) []byte {
	random := rand.NewChaCha8([32]byte{1})
	plain := make([]byte, size)
	_, _ = random.Read(plain)
	return plain
}

// exchanged swaps the two blocks of the size that follow each other at the place.
func exchanged(in []byte, at, size int) []byte {
	out := bytes.Clone(in)
	copy(out[at:], in[at+size:at+2*size])
	copy(out[at+size:], in[at:at+size])
	return out
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type limited struct {
	writes int
	err    error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.writes == 0 {
		return 0, l.err
	}
	l.writes--
	return len(p), nil
}

// Package seal seals model files and opens them again. A sealed file is a standard age file
// (https://age-encryption.org/v1) under a hybrid ML-KEM-768 and X25519 key, so that `age -d -i KEYFILE` opens it too.
//
// age encrypts in chunks of 64 KiB, each authenticated. No function of this package hands out a byte of a chunk before
// the chunk is authenticated, and all but Open know before the first byte that the file is whole.
package seal

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"
)

// Suffix is what the name of a sealed file ends in, after the name of the plain one.
const Suffix = ".age"

// GenerateKey makes a new model key: a hybrid ML-KEM-768 and X25519 identity. Its String is the secret; its Recipient
// is public and seals.
func GenerateKey() (*age.HybridIdentity, error) {
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("generate a model key: %w", err)
	}
	return key, nil
}

// Seal reads src to its end and writes it sealed to dst, so that each of the recipients alone can open it. After an
// error dst holds a part of a file, which no function here opens: throw it away.
func Seal(dst io.Writer, src io.Reader, recipients ...age.Recipient) error {
	sealed, err := age.Encrypt(dst, recipients...)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if _, err := io.Copy(sealed, src); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("seal: write the end of the file: %w", err)
	}
	return nil
}

// Open returns a reader of what is sealed in src, for streams. That src was cut off shows only at its end: whoever reads
// must not act on what was read before Read has returned io.EOF. Use OpenAt or Load for files.
func Open(src io.Reader, keys ...age.Identity) (io.Reader, error) {
	plain, err := age.Decrypt(src, keys...)
	if err != nil {
		return nil, openError(err)
	}
	return plain, nil
}

// OpenAt returns what is sealed in the first size bytes of src, for random access. A file that was cut off or extended
// is refused at once. ReadAt may be called from several goroutines; each call decrypts the chunks that it touches, and
// fails where one of them was changed.
func OpenAt(src io.ReaderAt, size int64, keys ...age.Identity) (*io.SectionReader, error) {
	plain, plainSize, err := age.DecryptReaderAt(src, size, keys...)
	if err != nil {
		return nil, openError(err)
	}
	return io.NewSectionReader(plain, 0, plainSize), nil
}

// span is how much one goroutine of Load decrypts at a time, in bytes: a multiple of age's chunk, large enough that
// reading is sequential on a disk.
const span = 64 * 64 << 10

// Load opens what is sealed in the first size bytes of src and returns it whole, decrypted on all processors. It
// returns either everything or an error.
func Load(src io.ReaderAt, size int64, keys ...age.Identity) ([]byte, error) {
	plain, err := OpenAt(src, size, keys...)
	if err != nil {
		return nil, err
	}
	content := make([]byte, plain.Size())
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for start := 0; start < len(content); start += span {
		part := content[start:min(start+span, len(content))]
		group.Go(func() error {
			if _, err := plain.ReadAt(part, int64(start)); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("open a sealed file at byte %d: %w", start, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return content, nil
}

// openError says in words that none of the keys is the right one.
func openError(err error) error {
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return fmt.Errorf("open a sealed file: it was not sealed for any of the keys given: %w", err)
	}
	return fmt.Errorf("open a sealed file: %w", err)
}

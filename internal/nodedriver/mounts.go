package nodedriver

// Mounts are the mounts of the node, as far as the driver has to do with them.
type Mounts interface {
	// Look says what is at a target.
	Look(target string) (State, error)

	// NoSwap says whether the kernel can keep a tmpfs from swap.
	NoSwap() (bool, error)

	// Attach mounts a new read-only tmpfs that holds the files at a target, which it creates. It is all or nothing:
	// nobody sees the tmpfs without its files, and after an error nothing is mounted.
	Attach(target string, files map[string][]byte, noSwap bool) error

	// DetachAll unmounts every filesystem of the driver's that is at a target. There may be none.
	DetachAll(target string) error

	// Remove removes a target at which nothing is mounted. It may be gone already.
	Remove(target string) error
}

// State is what is at a target.
type State int

// What can be at a target.
const (
	// NothingMounted means that no filesystem is mounted there; the directory may be missing.
	NothingMounted State = iota
	// KeyMounted means that a tmpfs of the driver's is there and holds a key.
	KeyMounted
	// OursMounted means that a tmpfs of the driver's is there, but holds no key.
	OursMounted
	// ForeignMounted means that another filesystem is there.
	ForeignMounted
)

const (
	// tmpfsBytes bounds the tmpfs: eight keys of at most 16 KiB, and room.
	tmpfsBytes = 1 << 20
	// tmpfsInodes bounds the number of files: the root, the key, and room for what a later version keeps beside it.
	tmpfsInodes = 16
	// directoryMode and fileMode let everybody read. Containers run as any user, and kubelet applies no fsGroup to a
	// read-only volume; but the tmpfs exists for one pod alone, only the containers that use the model mount it, and on
	// the node kubelet's directory keeps everybody but root out.
	directoryMode = 0o555
	fileMode      = 0o444
)

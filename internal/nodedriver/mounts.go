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

	// Held lists the targets below a directory at which a tmpfs of the driver's is mounted.
	Held(directory string) ([]string, error)

	// Read returns the content of a file of the driver's tmpfs at a target, nil where there is no such file.
	Read(target, name string) ([]byte, error)

	// Rewrite gives files of the driver's tmpfs at a target a new content, in place: whoever has them open or mounted
	// elsewhere sees it. Files that are missing are created. After an error some of it may be done.
	Rewrite(target string, files map[string][]byte) error

	// Wipe overwrites all files of the driver's tmpfs at a target with zeros but one, in place, and makes them empty.
	Wipe(target, but string) error
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
	// tmpfsBytes bounds the tmpfs: eight keys of at most 16 KiB, the lease, and room.
	tmpfsBytes = 1 << 20
	// tmpfsInodes bounds the number of files: the root, the key, the lease, and room for what a later version keeps beside
	// them.
	tmpfsInodes = 16
	// directoryMode and fileMode let everybody read. Containers run as any user, and kubelet applies no fsGroup to a
	// read-only volume; but the tmpfs exists for one pod alone, only the containers that use the model mount it, and on
	// the node kubelet's directory keeps everybody but root out.
	directoryMode = 0o555
	fileMode      = 0o444
)

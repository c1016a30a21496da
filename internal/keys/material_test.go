package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/go-logr/logr/funcr"
)

// newIdentity returns a classic identity as an administrator would have it in a file.
func newIdentity(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func newHybridIdentity(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func TestParse(t *testing.T) {
	classic, hybrid := newIdentity(t), newHybridIdentity(t)
	// An error must not quote its input: this is what would be seen of it.
	const marker = "MARKERMARKERMARKER"
	tests := map[string]struct {
		text string
		want string
		err  error
	}{
		"classic":               {text: classic, want: classic + "\n"},
		"hybrid post-quantum":   {text: hybrid + "\n", want: hybrid + "\n"},
		"several":               {text: classic + "\n" + hybrid + "\n", want: classic + "\n" + hybrid + "\n"},
		"as age-keygen writes":  {text: "# created: today\n# public key: age1x\n" + classic + "\n", want: classic + "\n"},
		"with carriage returns": {text: classic + "\r\n\r\n", want: classic + "\n"},
		"with stray spaces":     {text: "  " + classic + " \t\n", want: classic + "\n"},
		"empty":                 {text: "", err: errEmpty},
		"blank":                 {text: " \n\n\t\n", err: errEmpty},
		"comment only":          {text: "# " + marker, err: errEmpty},
		"something else":        {text: marker, err: errInvalid},
		"recipient":             {text: "age1" + marker, err: errInvalid},
		"broken checksum":       {text: "AGE-SECRET-KEY-1" + marker, err: errInvalid},
		"broken hybrid":         {text: "AGE-SECRET-KEY-PQ-1" + marker, err: errInvalid},
		"second line broken":    {text: classic + "\n" + marker, err: errInvalid},
		"no UTF-8":              {text: "\xff\xfe" + marker, err: errInvalid},
		"plugin identity":       {text: "AGE-PLUGIN-" + marker, err: errInvalid},
		"too long":              {text: strings.Repeat("#"+marker+"\n", MaxMaterialBytes), err: errTooLong},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := Parse([]byte(tc.text))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("the error quotes its input: %v", err)
			}
			if got := string(m.Bytes()); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if err == nil {
				if _, err := m.Identities(); err != nil {
					t.Errorf("age does not take it back: %v", err)
				}
			}
		})
	}
}

func TestMaterialDoesNotPrintItself(t *testing.T) {
	secret := newIdentity(t)
	m, err := Parse([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	type outer struct {
		Exported   Material
		unexported Material
		pointer    *Material
	}
	nested := outer{Exported: m, unexported: m, pointer: &m}
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	logged := func(log func(*bytes.Buffer)) string {
		var b bytes.Buffer
		log(&b)
		return b.String()
	}
	outputs := map[string]string{
		"String":   m.String(),
		"error":    fmt.Errorf("a key: %v", m).Error(),
		"JSON":     encode(m) + encode(nested) + encode(map[string]any{"m": m}),
		"slog":     logged(func(b *bytes.Buffer) { slog.New(slog.NewTextHandler(b, nil)).Info("x", "m", m, "n", nested) }),
		"slogJSON": logged(func(b *bytes.Buffer) { slog.New(slog.NewJSONHandler(b, nil)).Info("x", "m", m, "n", nested) }),
		"logr": logged(func(b *bytes.Buffer) {
			funcr.NewJSON(func(line string) { b.WriteString(line) }, funcr.Options{}).Info("x", "m", m, "n", nested, "p", &m)
		}),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%t", "%p"} {
		outputs["value "+verb] = fmt.Sprintf(verb, m)
		outputs["pointer "+verb] = fmt.Sprintf(verb, &m)
		outputs["nested "+verb] = fmt.Sprintf(verb, nested)
		outputs["slice "+verb] = fmt.Sprintf(verb, []Material{m})
	}
	for how, output := range outputs {
		for _, form := range []string{secret, secret[20:40], fmt.Sprintf("%x", secret)[40:60], fmt.Sprintf("%X", secret)[40:60],
			strings.Trim(fmt.Sprintf("%d", []byte(secret[20:30])), "[]")} {
			if strings.Contains(output, form) {
				t.Errorf("%s prints the key: %s", how, output)
			}
		}
	}
}

func TestJoinAndWipe(t *testing.T) {
	a, b := newIdentity(t), newIdentity(t)
	ma, err := Parse([]byte(a))
	if err != nil {
		t.Fatal(err)
	}
	mb, err := Parse([]byte(b))
	if err != nil {
		t.Fatal(err)
	}
	joined := Join(ma, mb)
	if got, want := string(joined.Bytes()), a+"\n"+b+"\n"; got != want {
		t.Errorf("joined %q, want %q", got, want)
	}
	copied := ma
	ma.Wipe()
	if len(bytes.Trim(copied.Bytes(), "\x00")) != 0 {
		t.Error("a copy outlives wiping")
	}
	if got := string(joined.Bytes()); !strings.HasPrefix(got, a) {
		t.Error("wiping a part wiped the whole")
	}
	Material{}.Wipe() // must not panic
	if got := len(Join().Bytes()); got != 0 {
		t.Errorf("nothing joined has %d bytes", got)
	}
}

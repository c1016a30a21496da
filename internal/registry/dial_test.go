package registry

import (
	"context"
	"errors"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestCheckAddress(t *testing.T) {
	tests := map[string]struct {
		host, address string
		refused       bool
	}{
		"a public address":                       {host: "registry.example.com", address: "93.184.216.34:443"},
		"a private address":                      {host: "registry.example.com", address: "10.0.0.7:443"},
		"a private IPv6 address":                 {host: "registry.example.com", address: "[fd12:3456::7]:443"},
		"loopback":                               {host: "registry.example.com", address: "127.0.0.1:443", refused: true},
		"another loopback":                       {host: "registry.example.com", address: "127.8.8.8:443", refused: true},
		"IPv6 loopback":                          {host: "registry.example.com", address: "[::1]:443", refused: true},
		"loopback in IPv6":                       {host: "registry.example.com", address: "[::ffff:127.0.0.1]:443", refused: true},
		"this host":                              {host: "registry.example.com", address: "0.0.0.0:443", refused: true},
		"this host in IPv6":                      {host: "registry.example.com", address: "[::]:443", refused: true},
		"metadata":                               {host: "registry.example.com", address: "169.254.169.254:443", refused: true},
		"metadata in IPv6":                       {host: "registry.example.com", address: "[::ffff:169.254.169.254]:443", refused: true},
		"metadata through NAT64":                 {host: "registry.example.com", address: "[64:ff9b::a9fe:a9fe]:443", refused: true},
		"metadata of AWS":                        {host: "registry.example.com", address: "[fd00:ec2::254]:443", refused: true},
		"metadata of Google Cloud":               {host: "registry.example.com", address: "[fd20:ce::254]:443", refused: true},
		"metadata of Alibaba Cloud":              {host: "registry.example.com", address: "100.100.100.200:443", refused: true},
		"host services of Azure":                 {host: "registry.example.com", address: "168.63.129.16:443", refused: true},
		"link-local":                             {host: "registry.example.com", address: "[fe80::1%eth0]:443", refused: true},
		"multicast":                              {host: "registry.example.com", address: "224.0.0.1:443", refused: true},
		"broadcast":                              {host: "registry.example.com", address: "255.255.255.255:443", refused: true},
		"loopback, literally":                    {host: "127.0.0.1", address: "127.0.0.1:5000"},
		"IPv6 loopback, literally":               {host: "::1", address: "[::1]:5000"},
		"localhost":                              {host: "localhost", address: "127.0.0.1:5000"},
		"localhost in IPv6":                      {host: "localhost", address: "[::1]:5000"},
		"localhost that resolves to metadata":    {host: "localhost", address: "169.254.169.254:5000", refused: true},
		"another loopback than literally":        {host: "127.0.0.1", address: "127.0.0.2:5000", refused: true},
		"metadata, literally":                    {host: "169.254.169.254", address: "169.254.169.254:443"},
		"a name that begins like localhost":      {host: "localhost.example.com", address: "127.0.0.1:443", refused: true},
		"what is no address":                     {host: "registry.example.com", address: "somewhere", refused: true},
		"a socket, as some resolvers might give": {host: "registry.example.com", address: "/run/containerd.sock", refused: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if err := checkAddress(tc.host, tc.address); (err != nil) != tc.refused {
				t.Errorf("error %v, refused: %t", err, tc.refused)
			}
		})
	}
}

// TestNameThatResolvesToUs: a name of the attacker's leads to a server on this machine.
func TestNameThatResolvesToUs(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	d := dialer{resolver: resolvesTo(t, [4]byte{127, 0, 0, 1})}
	conn, err := d.dial(t.Context(), "tcp", "registry.attacker.example.net:"+port)
	if err == nil {
		conn.Close()
		t.Error("connected")
	}
	var refused *refusal
	if !errors.As(err, &refused) {
		t.Errorf("error %v", err)
	}
	conn, err = d.dial(t.Context(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatalf("literally: %v", err)
	}
	conn.Close()
}

// resolvesTo is a resolver of a DNS in which every name has the address.
func resolvesTo(t *testing.T, address [4]byte) *net.Resolver {
	t.Helper()
	server, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: address},
				}}
			}
			if packed, err := m.Pack(); err == nil {
				server.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// TestNoProxy: a proxy would resolve names by itself, so that no address could be looked at.
func TestNoProxy(t *testing.T) {
	if newTransport(nil).Proxy != nil {
		t.Error("a proxy may be used")
	}
}

package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const dialTimeout = 5 * time.Second

// forbidden are addresses behind which there is no registry, but what answers to the operator alone: its own machine,
// the link, and the metadata services of clouds.
var forbidden = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),              // this host, RFC 1122
	netip.MustParsePrefix("127.0.0.0/8"),            // loopback
	netip.MustParsePrefix("169.254.0.0/16"),         // link-local, and metadata of most clouds
	netip.MustParsePrefix("100.100.100.200/32"),     // metadata of Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),       // the host's services in Azure
	netip.MustParsePrefix("192.0.0.192/32"),         // metadata of Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/3"),            // multicast, reserved, broadcast
	netip.MustParsePrefix("::/127"),                 // unspecified and loopback
	netip.MustParsePrefix("fe80::/10"),              // link-local
	netip.MustParsePrefix("ff00::/8"),               // multicast
	netip.MustParsePrefix("fd00:ec2::/32"),          // metadata of AWS
	netip.MustParsePrefix("fd20:ce::254/128"),       // metadata of Google Cloud
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // metadata of Oracle Cloud
}

// nat64 is the well-known prefix under which a network translates to IPv4, RFC 6052.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// isForbidden looks through the forms in which IPv6 carries an IPv4 address.
func isForbidden(address netip.Addr) bool {
	if address = address.WithZone("").Unmap(); !address.IsValid() {
		return true
	}
	if nat64.Contains(address) {
		b := address.As16()
		address = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, prefix := range forbidden {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// dialer connects to registries. Its resolver is nil for the system's.
type dialer struct{ resolver *net.Resolver }

// dial connects to HOST:PORT. What HOST resolves to is looked at when it is connected to, so that no other answer of
// the DNS can come between: forbidden addresses are only reached where HOST literally is that address, or localhost.
func (d dialer) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", hostPort, err)
	}
	checked := net.Dialer{Timeout: dialTimeout, Resolver: d.resolver, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return checkAddress(host, address)
	}}
	return checked.DialContext(ctx, network, hostPort)
}

// checkAddress says whether a host may be reached at ADDRESS:PORT, to which it was resolved.
func checkAddress(host, address string) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return refuse("host %q resolves to %q, which is no address", host, address)
	}
	ip := resolved.Addr()
	if !isForbidden(ip) || host == "localhost" && ip.Unmap().IsLoopback() {
		return nil
	}
	if literal, err := netip.ParseAddr(host); err == nil && literal.Unmap() == ip.Unmap() {
		return nil
	}
	return refuse("host %q resolves to %s, behind which no registry may be: it is of this machine, of the link or of the cloud's metadata service", host, ip)
}

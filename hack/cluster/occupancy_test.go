package main

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

func listen(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port
}

func TestCheckPortsNamesEveryPortAndHolder(t *testing.T) {
	taken, alsoTaken := listen(t), listen(t)
	uses := []portUse{
		{part: "kube-apiserver", variable: "CLUSTER_PORT_APISERVER", number: taken},
		{part: "registry", variable: "CLUSTER_PORT_REGISTRY", number: alsoTaken},
	}
	err := checkPorts(uses, func(port int) portHolder {
		if port == taken {
			return portHolder{PID: 42, Name: "k3s"}
		}
		return portHolder{}
	})
	if err == nil {
		t.Fatal("taken ports pass")
	}
	for _, want := range []string{
		"port " + strconv.Itoa(taken) + ", wanted by kube-apiserver, is held by k3s (process 42)", "CLUSTER_PORT_APISERVER",
		"port " + strconv.Itoa(alsoTaken) + ", wanted by registry, is held by another process", "CLUSTER_PORT_REGISTRY",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestCheckPortsPassesFreeOnes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := checkPorts([]portUse{{part: "etcd", number: port}}, findHolder); err != nil {
		t.Error(err)
	}
}

func TestFindHolderFindsThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		return // the system does not tell, and the message does without
	}
	if holder := findHolder(listen(t)); holder.PID != os.Getpid() || holder.Name == "" {
		t.Errorf("holder %+v, want process %d", holder, os.Getpid())
	}
}

func TestParseListener(t *testing.T) {
	for name, test := range map[string]struct {
		line  string
		port  int
		inode string
	}{
		"listening": {"   0: 0100007F:445B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1", 17499, "12345"},
		"connected": {"   1: 0100007F:445B 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 12346 1", 0, ""},
		"header":    {"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", 0, ""},
		"version 6": {"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1", 8080, "77"},
		"empty":     {"", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if port, inode := parseListener(test.line); port != test.port || inode != test.inode {
				t.Errorf("port %d, inode %q", port, inode)
			}
		})
	}
}

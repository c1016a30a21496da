// Command probe is a pod of the e2e suite. It serves what a container sees of its key, never the key itself, and what
// comes of it when a tenant turns to the key service on his own:
//
//	GET /facts     the container's view of the key file
//	GET /attack    the key service's answers to calls that must get nothing
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	keyService := flag.String("key-service", "https://modelrights-keyservice.modelrights-system.svc:443", "`URL` to attack")
	tokens := flag.String("tokens", "/tokens", "`directory` of projected tokens, each in a file named after its audience's last part")
	address := flag.String("listen", ":8080", "`address` to serve HTTP on")
	once := flag.Bool("once", false, "print what /facts would say, and end")
	flag.Parse()
	if *once {
		if err := json.NewEncoder(os.Stdout).Encode(LookAround("/")); err != nil {
			log.Fatalln("probe:", err)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /facts", func(w http.ResponseWriter, _ *http.Request) { answer(w, LookAround("/")) })
	mux.HandleFunc("GET /attack", func(w http.ResponseWriter, r *http.Request) {
		target := Target{
			URL: *keyService, Tokens: *tokens, License: r.FormValue("license"),
			Namespace: r.FormValue("namespace"), Pod: r.FormValue("pod"), UID: r.FormValue("uid"),
		}
		answer(w, Attack(r.Context(), target))
	})
	server := &http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatalln("probe:", err)
	}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Printf("answer: %v", err)
	}
}

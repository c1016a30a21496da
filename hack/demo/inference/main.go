// Command inference serves a sealed model over HTTP. It is an ordinary inference server: all it knows of licences is
// that the key which opens the weights lies in the file that MODELRIGHTS_KEY_FILE names.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// keyFileVariable names the key file; it is set in every container that uses a licensed model.
const keyFileVariable = "MODELRIGHTS_KEY_FILE"

func main() {
	dir := flag.String("model", "/model", "`directory` with config.json and the sealed weights; empty to serve no model")
	address := flag.String("listen", ":8080", "`address` to serve HTTP on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *address); err != nil {
		log.Fatalln("inference:", err)
	}
}

func run(ctx context.Context, dir, address string) error {
	var model *Model
	if dir != "" {
		keyFile := os.Getenv(keyFileVariable)
		if keyFile == "" {
			return fmt.Errorf("%s is not set: this pod has no key for its model", keyFileVariable)
		}
		started := time.Now()
		var err error
		if model, err = LoadModel(dir, keyFile); err != nil {
			return err
		}
		log.Printf("opened %s in %s: %d tensors, SHA-256 %s", model.Name, time.Since(started).Round(time.Millisecond), len(model.Tensors), model.SHA256)
	}
	server := &http.Server{Addr: address, Handler: Handler(model), ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	defer stopped()
	log.Printf("serving on %s", address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

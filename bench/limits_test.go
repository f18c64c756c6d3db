package bench

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// barePut is the least that a durable push costs, in MiB a second: net/http takes the bytes,
// they are hashed, written and synced.
func barePut(b *testing.B, blob content) float64 {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Create(filepath.Join(dir, "blob"))
		if err == nil {
			h := sha256.New()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, struct{ io.Reader }{r.Body}, make([]byte, 256<<10))
			if err == nil {
				err = f.Sync()
			}
			f.Close()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})}
	ended := make(chan struct{})
	go func() { _ = srv.Serve(l); close(ended) }() // ends with Close
	defer func() { _ = srv.Close(); <-ended }()
	c := newClient("http://"+l.Addr().String(), 0)
	defer c.http.CloseIdleConnections()
	r, err := blob.open()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	begin := time.Now()
	if _, err := c.do(http.MethodPut, "/", r, blob.Size, "application/octet-stream", http.StatusCreated, io.Discard); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	return float64(blob.Size) / mib / took.Seconds()
}

// nginxGet is how fast nginx sends the same file to the same client, in MiB a second.
func nginxGet(b *testing.B, blob content) float64 {
	b.Helper()
	addr, dir := freeAddr(b), b.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log; events {}\nhttp { access_log off; sendfile on; tcp_nopush on; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;\nserver { listen %[2]s; root %[3]s; } }\n", dir, addr, filepath.Dir(blob.path))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	for d := filepath.Dir(blob.path); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // its workers are another user
			b.Fatal(err)
		}
	}
	p := start(b, addr, nil, find(b, "NGINX_BIN", "nginx"), "-c", config, "-e", filepath.Join(dir, "error.log"), "-p", dir)
	defer p.stop(b)
	p.await(b, "/"+filepath.Base(blob.path), time.Minute)
	return fetch(b, p.base, "/"+filepath.Base(blob.path), blob.Size)
}

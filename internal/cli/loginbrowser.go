package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"pratique.dev/pratique/internal/api"
)

// browserTimeout is how long somebody may take to sign in.
const browserTimeout = 10 * time.Minute

// loginByBrowser has somebody open the registry's sign-in page and waits on loopback for the code that
// they are sent back with (RFC 8252, section 7.3; PKCE, RFC 7636).
func loginByBrowser(ctx context.Context, cl *api.Client, say io.Writer) (api.Ticket, error) {
	ctx, cancel := context.WithTimeout(ctx, browserTimeout)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return api.Ticket{}, fmt.Errorf("listen for the browser: %w", err)
	}
	redirect, state, verifier := "http://"+l.Addr().String()+"/", rand.Text(), rand.Text()+rand.Text()
	codes := make(chan string, 1)
	srv := &http.Server{ReadTimeout: loginTimeout, WriteTimeout: loginTimeout, MaxHeaderBytes: maxToken, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if r.URL.Path != "/" || q.Get("code") == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintln(w, "This is not the answer that 'pratique login' waits for.")
			return
		}
		select {
		case codes <- q.Get("code"):
		default: // one came before
		}
		fmt.Fprintln(w, "You are logged in on the command line. This window can be closed.")
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }() // ends with Shutdown
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(end) // the browser may keep a connection open
		_ = srv.Close()
		<-done
	}()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{"response_type": {"code"}, "client_id": {"pratique"}, "redirect_uri": {redirect}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	fmt.Fprintf(say, "Open this address in a browser on this machine, and sign in:\n\n  %s%s?%s\n\n", cl.Server(), api.PathAuthorize, q.Encode())
	select {
	case code := <-codes:
		return cl.LoginByCode(ctx, code, verifier, redirect)
	case err := <-done:
		done <- err
		return api.Ticket{}, err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return api.Ticket{}, fmt.Errorf("nobody signed in within %s", browserTimeout)
		}
		return api.Ticket{}, ctx.Err()
	}
}

package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// secret is the administrator's.
const secret = "chaos-only-5b1f0f7d2b"

// server is one run of `pratique serve`, to be killed.
type server struct {
	addr string
	cmd  *exec.Cmd
	log  bytes.Buffer // of the process, which alone writes to it until done is closed
	done chan struct{}
	http *http.Client
	end  sync.Once
}

// spawn starts a server on a data folder and does not wait for it.
func spawn(data string, args ...string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{addr: l.Addr().String(), done: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}}
	if err := l.Close(); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, append([]string{"serve", "--data", data, "--listen", s.addr}, args...)...)
	s.cmd.Env = append(os.Environ(), "PRATIQUE_ADMIN_SECRET="+secret)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // who waits for done reads the state
		close(s.done)
	}()
	return s, nil
}

// await asks until the answer is yes.
func (s *server) await(limit time.Duration, what string, ask func() (bool, error)) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ask(); err != nil || ok {
			return err
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended (%v) before it was %s", s.cmd.ProcessState, what)
		case <-deadline.C:
			return fmt.Errorf("the server was not %s within %v", what, limit)
		case <-tick.C:
		}
	}
}

// ready waits until pushes are taken, or until they are judged too.
func (s *server) ready(judging bool) error {
	return s.await(2*time.Minute, "ready", func() (bool, error) {
		a, err := s.do(http.MethodGet, "/readyz", nil, nil)
		if err != nil {
			return false, nil // it does not listen yet
		}
		return a.code == http.StatusOK && (!judging || bytes.Contains(a.body, []byte(`"ready":true`))), nil
	})
}

// kill ends the server as a power cut would, or what is left of it.
func (s *server) kill() {
	s.end.Do(func() {
		_ = s.cmd.Process.Signal(syscall.SIGKILL) // it may have ended by itself, which its output tells
		<-s.done
		s.http.CloseIdleConnections()
	})
}

// stop ends the server in good order.
func (s *server) stop() (err error) {
	s.end.Do(func() {
		err = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(time.Minute):
			err = errors.Join(err, errors.New("it did not end within a minute"), s.cmd.Process.Kill())
			<-s.done
		}
		s.http.CloseIdleConnections()
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			err = errors.Join(err, fmt.Errorf("it ended with %d", code))
		}
	})
	return err
}

// answer is a response with its body read.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %.300s", a.code, a.body) }

// location is the path of the Location header, whichever host it names.
func (a answer) location() string {
	l := a.header.Get("Location")
	if _, rest, ok := strings.Cut(l, "://"); ok {
		_, path, _ := strings.Cut(rest, "/")
		l = "/" + path
	}
	return l
}

// do sends one request as the administrator. An error says that the connection broke:
// what became of the request is not known.
func (s *server) do(method, path string, body []byte, header map[string]string) (answer, error) {
	req, err := http.NewRequest(method, "http://"+s.addr+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth("admin", secret)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}, err
}

// with adds a query parameter to a path.
func with(path, query string) string {
	if strings.Contains(path, "?") {
		return path + "&" + query
	}
	return path + "?" + query
}

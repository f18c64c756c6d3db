package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestSmuggling: what is hidden behind one request on its connection is refused, or is a request of its
// own that proves nobody; headers that contradict one another count for nothing.
func TestSmuggling(t *testing.T) {
	s := start(t, loadedData(t))
	img := smallImage(t, "not for everybody")
	s.push(t, "secret/app", "v1", img)
	s.pulled(t, "secret/app", "v1", img)
	auth := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+secret)) + "\r\n"
	wrong := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:wrong")) + "\r\n"
	host := "Host: " + s.addr + "\r\n"
	hidden := "GET /v2/secret/app/manifests/v1 HTTP/1.1\r\n" + host + "\r\n"
	get := "GET /v2/secret/app/manifests/v1 HTTP/1.1\r\n" + host
	post := "POST /v2/secret/app/blobs/uploads/ HTTP/1.1\r\n" + host + auth
	for name, raw := range map[string]string{
		"length and chunks":           post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunks and length":           post + fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n", 5+len(hidden)) + hidden,
		"two lengths":                 post + fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n", len(hidden)) + hidden,
		"a length that is none":       post + "Content-Length: +0\r\n\r\n" + hidden,
		"chunked, said twice":         post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden,
		"a space before the colon":    get + strings.Replace(auth, ":", " :", 1) + "\r\n",
		"a folded header":             get + "X: y\r\n " + auth + "\r\n",
		"a bare line feed":            get + "X: y\n" + strings.ReplaceAll(auth, "Authorization", "X-Authorization") + "\r\n",
		"right and wrong credentials": get + auth + wrong + "\r\n",
		"wrong and right credentials": get + wrong + auth + "\r\n",
		"said by a proxy":             get + "X-Forwarded-User: admin\r\nX-Remote-User: admin\r\nX-Original-URL: /readyz\r\n\r\n",
	} {
		c, err := net.Dial("tcp", s.addr)
		check(t, err)
		check(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = io.WriteString(c, raw+"GET /readyz HTTP/1.1\r\n"+host+"Connection: close\r\n\r\n")
		check(t, err)
		answer, _ := io.ReadAll(c) // the server may reset what it refuses
		check(t, c.Close())
		if len(answer) == 0 || strings.Contains(string(answer), "application/vnd.oci.image.manifest") {
			t.Errorf("%s: it answers\n%s", name, answer)
		}
	}
}

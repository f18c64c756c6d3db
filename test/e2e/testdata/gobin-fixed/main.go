// gobin is content for the tests' images: a static program whose build information
// names the version of golang.org/x/net that go.mod asks for.
package main

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http2"
)

func main() {
	err := http2.ConfigureServer(new(http.Server), nil)
	fmt.Println("gobin", err)
}

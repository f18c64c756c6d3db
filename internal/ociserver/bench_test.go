package ociserver_test

import (
	"testing"

	"pratique.dev/pratique/internal/access"
)

// BenchmarkPull is the pull of a manifest by each way of proving who asks, over one connection.
func BenchmarkPull(b *testing.B) {
	w := newWorld(b)
	w.putImage("public/app", "1", "layer")
	w.assign(access.Anonymous.ID, "AcrPull", "public/*", "")
	secret := w.given("robot", "AcrPull", "public/*", "")
	get := request{method: "GET", path: "/v2/public/app/manifests/1", anonymous: true}
	for name, header := range map[string]map[string]string{"anonymous": nil, "basic": {"Authorization": basicAuth("robot", secret)},
		"bearer": {"Authorization": "Bearer " + w.tokenFor("robot", "repository:public/app:pull")}} {
		b.Run(name, func(b *testing.B) {
			r := get
			r.header = header
			for b.Loop() {
				if a := w.do(r); a.StatusCode != 200 {
					b.Fatal(a.StatusCode, string(a.body))
				}
			}
		})
	}
}

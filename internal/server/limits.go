package server

import (
	"cmp"
	"time"

	"pratique.dev/pratique/internal/edge"
)

// Limits bound what clients can hold. 0 takes the default; below 0 is no limit, where there may
// be none.
type Limits struct {
	Connections        int           // open at the same time
	ConnectionsPerAddr int           // of them from one address that is no trusted proxy
	Transfers          int           // requests that bring blob bytes at the same time
	OpenUploads        int           // that one principal has begun and not ended
	UploadExpiry       time.Duration // of an upload that nobody continues
	HeaderTimeout      time.Duration // for a request's header to come in
	BodyTimeout        time.Duration // that a body may bring nothing
	IdleTimeout        time.Duration // of a connection between requests
	ShutdownTimeout    time.Duration // for requests under way when the server is to end
	Rate               float64       // requests a second of each principal
	AnonymousRate      float64       // requests a second of each address without credentials
}

// DefaultLimits are those that hold unless configured. Principals have no rate: pipelines that
// push and pull all day are what a registry is for.
var DefaultLimits = Limits{
	Connections:        4096,
	ConnectionsPerAddr: 1024,
	Transfers:          256,
	OpenUploads:        1000,
	UploadExpiry:       24 * time.Hour,
	HeaderTimeout:      15 * time.Second,
	BodyTimeout:        time.Minute,
	IdleTimeout:        2 * time.Minute,
	ShutdownTimeout:    20 * time.Second,
	Rate:               -1,
	AnonymousRate:      1000,
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits
	return Limits{
		Connections:        cmp.Or(l.Connections, d.Connections),
		ConnectionsPerAddr: cmp.Or(l.ConnectionsPerAddr, d.ConnectionsPerAddr),
		Transfers:          cmp.Or(max(l.Transfers, 0), d.Transfers),
		OpenUploads:        cmp.Or(max(l.OpenUploads, 0), d.OpenUploads),
		UploadExpiry:       cmp.Or(max(l.UploadExpiry, 0), d.UploadExpiry),
		HeaderTimeout:      cmp.Or(max(l.HeaderTimeout, 0), d.HeaderTimeout),
		BodyTimeout:        cmp.Or(max(l.BodyTimeout, 0), d.BodyTimeout),
		IdleTimeout:        cmp.Or(max(l.IdleTimeout, 0), d.IdleTimeout),
		ShutdownTimeout:    cmp.Or(max(l.ShutdownTimeout, 0), d.ShutdownTimeout),
		Rate:               cmp.Or(l.Rate, d.Rate),
		AnonymousRate:      cmp.Or(l.AnonymousRate, d.AnonymousRate),
	}
}

func (l Limits) rates() *edge.Rates {
	return edge.NewRates(edge.RateLimits{Principal: l.Rate, Anonymous: l.AnonymousRate}, time.Now)
}

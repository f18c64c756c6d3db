package server

import (
	"fmt"
	"log/slog"
	"time"

	"pratique.dev/pratique/internal/audit"
	"pratique.dev/pratique/internal/catalog"
)

// Audit says what is kept of who did what.
type Audit struct {
	Keep       time.Duration // 0: audit.DefaultKeep; below 0: for ever
	MaxRecords int64         // 0: audit.DefaultMaxRecords
	Pulls      bool          // pulls are recorded too
	Syslog     string        // "udp://HOST:514": where records are handed on to; "": nowhere
}

func (a Audit) open(cat *catalog.Catalog, log *slog.Logger) (*audit.Log, error) {
	o := audit.Options{Keep: a.Keep, MaxRecords: a.MaxRecords, Pulls: a.Pulls, Log: log}
	if a.Syslog != "" {
		var err error
		if o.Syslog, err = audit.ParseSyslog(a.Syslog); err != nil {
			return nil, fmt.Errorf("--audit-syslog: %w", err)
		}
	}
	return audit.New(cat, o), nil
}

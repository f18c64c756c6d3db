package catalog

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgConns bounds the connections that one process holds to PostgreSQL.
const pgConns = 16

// openPostgres opens the pool for both reading and writing. pgx prepares statements itself.
func openPostgres(dsn string) (*pool, error) {
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL address: %w", err)
	}
	if conf.RuntimeParams["application_name"] == "" {
		conf.RuntimeParams["application_name"] = "pratique"
	}
	// What the methods rely on, whatever the server's or the role's settings are.
	conf.RuntimeParams["default_transaction_isolation"] = "read committed"
	conf.RuntimeParams["synchronous_commit"] = "on"
	var db *sql.DB = stdlib.OpenDB(*conf)
	db.SetMaxOpenConns(pgConns)
	db.SetMaxIdleConns(pgConns)
	return &pool{db: db}, nil
}

// PostgreSQL's error codes (its manual, appendix A).
const (
	pgForeignKey    = "23503"
	pgRestrict      = "23001"
	pgUnique        = "23505"
	pgSerialization = "40001"
	pgDeadlock      = "40P01"
	pgDiskFull      = "53100"
	pgReadOnly      = "25006"
)

// postgresError names the errors of PostgreSQL that callers ask for.
func postgresError(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code {
	case pgForeignKey, pgRestrict, pgUnique:
		return ErrConflict
	case pgDiskFull:
		return ErrNoSpace
	case pgReadOnly:
		return ErrReadOnly
	}
	return nil
}

// again says whether a transaction that failed so may succeed when it is tried again.
func again(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == pgSerialization || e.Code == pgDeadlock)
}

package catalog_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pratique.dev/pratique/internal/catalog"
	"pratique.dev/pratique/internal/catalog/catalogtest"
	"pratique.dev/pratique/internal/oci"
	"pratique.dev/pratique/internal/vuln"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// schemaOf lists what the databases themselves say of their schema.
var schemaOf = map[string]string{
	"sqlite": `select coalesce(sql, '') from sqlite_master where name not like 'sqlite_%' and name not like 'schema_versions%' order by type desc, name`,
	"postgres": `select 'column ' || table_name || '.' || column_name || ' ' || data_type || coalesce(' collate ' || collation_name, '') ||
			case is_nullable when 'NO' then ' not null' else '' end || case is_identity when 'YES' then ' identity' else '' end
		from information_schema.columns where table_schema = 'public' and table_name <> 'schema_versions'
		union all select indexdef from pg_indexes where schemaname = 'public' and tablename <> 'schema_versions'
		union all select 'constraint ' || conrelid::regclass || ': ' || pg_get_constraintdef(oid) from pg_constraint
			where connamespace = 'public'::regnamespace and contype = 'f'
		order by 1`,
}

func TestGoldenSchema(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		rows, err := c.DB().QueryContext(t.Context(), schemaOf[c.Engine()])
		ok(t, err)
		defer rows.Close()
		var got strings.Builder
		for rows.Next() {
			var line string
			ok(t, rows.Scan(&line))
			fmt.Fprintln(&got, line)
		}
		ok(t, rows.Err())
		file := filepath.Join("testdata", "schema."+c.Engine()+".golden")
		if *update {
			ok(t, os.WriteFile(file, []byte(got.String()), 0o644))
		}
		want, err := os.ReadFile(file)
		ok(t, err)
		if got.String() != string(want) {
			t.Errorf("the schema is not that of %s (go test -update rewrites it):\n%s", file, got.String())
		}
	})
}

func TestOpenAtOnce(t *testing.T) {
	catalogtest.EachDSN(t, func(t *testing.T, dsn string) {
		if dsn == "sqlite::memory:" {
			return // each has its own
		}
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				c, err := catalog.Open(t.Context(), dsn)
				if err == nil {
					err = errors.Join(c.PutSetting(t.Context(), fmt.Sprint(i), []byte("x")), c.Close())
				}
				errs[i] = err
			})
		}
		wg.Wait()
		ok(t, errors.Join(errs...))
	})
}

func TestNewerSchema(t *testing.T) {
	catalogtest.EachDSN(t, func(t *testing.T, dsn string) {
		if dsn == "sqlite::memory:" {
			return // nothing newer can be in it
		}
		c := must(catalog.Open(t.Context(), dsn))(t)
		_, err := c.DB().ExecContext(t.Context(), `insert into schema_versions (version_id, is_applied) values (9999, `+
			map[string]string{"sqlite": "1", "postgres": "true"}[c.Engine()]+`)`)
		ok(t, err)
		ok(t, c.Close())
		_, err = catalog.Open(t.Context(), dsn)
		wantErr(t, err, catalog.ErrNewerSchema)
		for _, word := range []string{"9999", "knows 3", "run the version"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the error does not say %q: %v", word, err)
			}
		}
	})
}

func TestOpenWhereThereIsNothing(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	ok(t, os.WriteFile(text, []byte(strings.Repeat("these are no pages of a database\n", 100)), 0o600))
	for _, tc := range []struct{ dsn, want string }{
		{"mysql://localhost/x", "expected sqlite: or postgres:"},
		{"", "expected sqlite: or postgres:"},
		{"sqlite:" + dir, "is a directory"},
		{"sqlite:" + filepath.Join(dir, "none", "catalog.db"), "make the folder first"},
		{"sqlite:" + text, "file is not a database"},
		{"postgres:///x?host=" + dir, "connect"},
	} {
		c, err := catalog.Open(t.Context(), tc.dsn)
		if err == nil {
			ok(t, c.Close())
			t.Errorf("%s: opened", tc.dsn)
		} else if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %q, want %q in it", tc.dsn, err, tc.want)
		}
	}
}

// A path may hold what has a meaning in a URL.
func TestOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%41&vfs=memdb é")
	ok(t, os.Mkdir(dir, 0o700))
	file := filepath.Join(dir, "catalog.db")
	c := must(catalog.Open(t.Context(), "sqlite:"+file))(t)
	ok(t, c.PutSetting(t.Context(), "k", []byte("v")))
	ok(t, c.Close())
	if s := must(os.Stat(file))(t); s.Size() == 0 {
		t.Error("the catalog is not in its file")
	}
	names := must(os.ReadDir(filepath.Dir(dir)))(t)
	if len(names) != 1 {
		t.Errorf("files elsewhere: %v", names)
	}
}

func TestFull(t *testing.T) {
	c := must(catalog.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db")))(t)
	defer c.Close()
	ok(t, c.PutSetting(t.Context(), "before", []byte("x")))
	// SQLite answers with the same error as on a full disk.
	var pages int
	ok(t, c.DB().QueryRowContext(t.Context(), `pragma page_count`).Scan(&pages))
	_, err := c.DB().ExecContext(t.Context(), fmt.Sprintf(`pragma max_page_count = %d`, pages+8))
	ok(t, err)
	big := make([]byte, 1<<20)
	wantErr(t, c.PutSetting(t.Context(), "big", big), catalog.ErrNoSpace)
	long := records(t, "npm")
	long[3].Summary = strings.Repeat("x", 1<<20)
	_, err = c.PutAdvisories(t.Context(), feed("npm"), all(long))
	wantErr(t, err, catalog.ErrNoSpace)
	equal(t, len(must(c.AdvisoryStatus(t.Context()))(t)), 0)
	_, err = c.Setting(t.Context(), "big")
	wantErr(t, err, catalog.ErrNotFound)
	equal(t, must(c.Setting(t.Context(), "before"))(t), []byte("x"))
	_, err = c.DB().ExecContext(t.Context(), `pragma max_page_count = 1000000`)
	ok(t, err)
	ok(t, c.PutSetting(t.Context(), "big", big))
}

func TestNoPlace(t *testing.T) {
	_, err := catalog.Open(t.Context(), "sqlite:/proc/catalog.db")
	if err == nil {
		t.Fatal("opened a catalog in /proc")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "catalog.db")
	c := must(catalog.Open(t.Context(), "sqlite:"+file))(t)
	ok(t, c.Close())
	if os.Getuid() != 0 { // root may write anywhere
		ok(t, os.Chmod(file, 0o400))
		_, err = catalog.Open(t.Context(), "sqlite:"+file)
		wantErr(t, err, catalog.ErrReadOnly)
		if !strings.Contains(err.Error(), file) {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}

func TestCancelled(t *testing.T) {
	catalogtest.Each(t, func(t *testing.T, c *catalog.Catalog) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.Manifest(ctx, repo(t, "a"), oci.Reference{Tag: "v1"})
		wantErr(t, err, context.Canceled)
		wantErr(t, c.PutSetting(ctx, "k", nil), context.Canceled)
		// In the middle of a loading.
		ctx, cancel = context.WithCancel(t.Context())
		list := records(t, "npm")
		for i := range list {
			list[i].Summary = strings.Repeat("x", 5<<20)
		}
		n := 0
		_, err = c.PutAdvisories(ctx, feed("npm"), func(yield func(vuln.Advisory, error) bool) {
			for _, a := range list {
				if n++; n == 10 {
					cancel()
				}
				if !yield(a, nil) {
					return
				}
			}
		})
		wantErr(t, err, context.Canceled)
		ok(t, c.PutSetting(t.Context(), "k", nil))
		equal(t, len(must(c.AdvisoryStatus(t.Context()))(t)), 0)
	})
}

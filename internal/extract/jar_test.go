package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pratique.dev/pratique/internal/inventory"
)

// member is an entry of a zip file.
type member struct {
	name, body string
	stored     bool
}

func zipFile(t testing.TB, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		method := zip.Deflate
		if m.stored {
			method = zip.Store
		}
		e, err := w.CreateHeader(&zip.FileHeader{Name: m.name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func pom(group, artifact, version string) member {
	return member{name: "META-INF/maven/" + group + "/" + artifact + "/pom.properties",
		body: "#Created\ngroupId=" + group + "\nartifactId=" + artifact + "\r\nversion=" + version + "\n"}
}

func model(group, artifact, body string) member {
	return member{name: "META-INF/maven/" + group + "/" + artifact + "/pom.xml",
		body: `<?xml version="1.0" encoding="ISO-8859-1"?><project xmlns="http://maven.apache.org/POM/4.0.0">` + body + `</project>`}
}

// TestManifests names jars that have a real manifest and no pom.properties.
func TestManifests(t *testing.T) {
	want := map[string]string{
		"commons-lang3-3.11.jar":         "org.apache.commons:commons-lang3 3.11",
		"guava-27.0-jre.jar":             "com.google.guava:guava 27.0-jre",
		"jackson-annotations-2.9.10.jar": "com.fasterxml.jackson.core:jackson-annotations 2.9.10",
		"jackson-core-2.9.10.jar":        "com.fasterxml.jackson.core:jackson-core 2.9.10",
		"jna-5.6.0.jar":                  "net.java.dev.jna:jna 5.6.0",
		"logback-core-1.2.3.jar":         "ch.qos.logback:logback-core 1.2.3",
		"snakeyaml-1.26.jar":             "org.yaml:snakeyaml 1.26",
		"snappy-java-1.1.2.6.jar":        "org.xerial.snappy:snappy-java 1.1.2.6",
		"zstd-jni-1.3.8-5.jar":           "com.github.luben:zstd-jni 1.3.8-5",
	}
	for name, want := range want {
		t.Run(name, func(t *testing.T) {
			manifest := fixture(t, filepath.Join("jar", "manifest-only", name))
			jar := zipFile(t, member{name: "META-INF/MANIFEST.MF", body: manifest}, member{name: "A.class"})
			l := read(t, Limits{}, archive(t, file{name: "app/" + name, body: jar}))
			if got := keys(l); !slices.Equal(got, []string{want}) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// keys are the names and versions of a layer's packages.
func keys(l inventory.Layer) []string {
	var out []string
	for _, p := range l.Packages {
		out = append(out, p.Name+" "+p.Version)
	}
	return out
}

func TestJars(t *testing.T) {
	inner := zipFile(t, pom("org.a", "inner", "1"), member{name: "X.class"})
	nested := zipFile(t, pom("org.b", "middle", "2"), member{name: "lib/inner.jar", body: inner})
	for _, tc := range []struct {
		name, file, body string
		want             []string // path, name and version
		programs         []string
		gap              string
	}{
		{"shaded: several artifacts in one", "a.jar", zipFile(t, pom("org.a", "a", "1"), pom("org.b", "b", "2")),
			[]string{"a.jar org.a:a 1", "a.jar org.b:b 2"}, nil, ""},
		{"a war in an ear, packed and stored", "a.ear",
			zipFile(t, member{name: "web.war", body: nested}, member{name: "x.jar", body: inner, stored: true}),
			[]string{"a.ear!/web.war!/lib/inner.jar org.a:inner 1", "a.ear!/x.jar org.a:inner 1", "a.ear!/web.war org.b:middle 2"}, nil, ""},
		{"behind a start script", "run.jar", "#!/bin/sh\nexec java -jar $0\n" + inner, []string{"run.jar org.a:inner 1"}, nil, ""},
		{"classes of unknown origin", "app.jar", zipFile(t, member{name: "A.class"}), nil, []string{"app.jar"}, ""},
		{"a model and no properties", "m.jar", zipFile(t, member{name: "A.class"}, model("org.a", "a",
			"<parent><groupId>org.a</groupId><artifactId>up</artifactId><version>3</version></parent><artifactId>a</artifactId><dependencies><dependency><groupId>x</groupId><artifactId>x</artifactId><version>9</version></dependency></dependencies>")),
			[]string{"m.jar org.a:a 3"}, nil, ""},
		{"a model beside its properties", "m.jar", zipFile(t, pom("org.a", "a", "1"), model("org.a", "a", "<groupId>org.a</groupId><artifactId>a</artifactId><version>${v}</version>")),
			[]string{"m.jar org.a:a 1"}, nil, ""},
		{"a model that is none", "m.jar", zipFile(t, member{name: "A.class"}, member{name: "META-INF/maven/g/a/pom.xml", body: "<project"}), nil, []string{"m.jar"}, ""},
		{"no classes at all", "res.jar", zipFile(t, member{name: "a.txt"}), nil, nil, ""},
		{"a template never filled in", "t.jar", zipFile(t, pom("${g}", "a", "1"), member{name: "a.class"}), nil, []string{"t.jar"}, ""},
		{"not a zip", "b.jar", strings.Repeat("no jar\n", 10), nil, nil, "unread b.jar: not a zip archive"},
		{"empty", "e.jar", "", nil, nil, "unread e.jar: not a zip archive"},
		{"the other rar", "c.rar", "Rar!\x1a\x07 and so on and on and on", nil, nil, ""},
		{"a broken jar within", "d.jar", zipFile(t, pom("g", "d", "1"), member{name: "x.jar", body: "nothing"}),
			[]string{"d.jar g:d 1"}, nil, "unread d.jar!/x.jar: not a zip archive"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := read(t, Limits{}, archive(t, file{name: tc.file, body: tc.body}))
			var got, programs []string
			for _, p := range l.Packages {
				for _, at := range p.Paths {
					got = append(got, at+" "+p.Name+" "+p.Version)
				}
			}
			for _, p := range l.Programs {
				programs = append(programs, p.Path)
			}
			slices.Sort(got)
			slices.Sort(tc.want)
			if !slices.Equal(got, tc.want) || !slices.Equal(programs, tc.programs) {
				t.Errorf("got %q and programs %q, want %q and %q", got, programs, tc.want, tc.programs)
			}
			wantGaps(t, l, tc.gap)
		})
	}
}

// wantGaps compares the layer's gaps with want, written "kind path: reason"; "" is none.
func wantGaps(t *testing.T, l inventory.Layer, want ...string) {
	t.Helper()
	var got []string
	for _, g := range l.Coverage.Unknown {
		got = append(got, fmt.Sprintf("%s %s: %s", g.Kind, g.Path, g.Reason))
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s == "" })
	if !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

// TestHostileJars holds nested archives to their limits.
func TestHostileJars(t *testing.T) {
	endless := zipFile(t, pom("g", "a", "1"))
	for range 20 {
		endless = zipFile(t, member{name: "in.jar", body: endless})
	}
	deep := "a.jar" + strings.Repeat("!/in.jar", 5)
	bomb := zipFile(t, member{name: "in.jar", body: strings.Repeat("\x00", 3<<20)})
	manifest := zipFile(t, member{name: "META-INF/MANIFEST.MF", body: strings.Repeat("A", 3<<20)})
	var many []member
	for i := range 2000 {
		many = append(many, member{name: fmt.Sprint("META-INF/maven/", i, strings.Repeat("x", 200))})
	}
	var crowd []member
	for i := range jarsNested + 5 {
		crowd = append(crowd, member{name: fmt.Sprint(i, ".jar"), stored: true})
	}
	for _, tc := range []struct {
		name, body string
		limits     Limits
		want       string
	}{
		{"nested without end", endless, Limits{}, "bound " + deep + ": jars are nested more than 5 deep"},
		{"a bomb within", bomb, Limits{JarBytes: 1 << 20}, "bound a.jar!/in.jar: the jar unpacks to more than 1048576 bytes"},
		{"a manifest without end", manifest, Limits{Document: 1 << 20}, "bound a.jar: META-INF/MANIFEST.MF has 3145728 bytes, more than the 1048576 that are read of such a file"},
		{"a directory without end", zipFile(t, many...), Limits{JarIndex: 100 << 10}, "bound a.jar: the directory of the archive is longer than 102400 bytes"},
		{"larger than the disk may hold", endless, Limits{Memory: 10, Spool: 100}, fmt.Sprintf("bound a.jar: %d bytes are more than the 100 that are looked into", len(endless))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := read(t, tc.limits, archive(t, file{name: "a.jar", body: tc.body}))
			wantGaps(t, l, tc.want)
		})
	}
	t.Run("a crowd", func(t *testing.T) {
		l := read(t, Limits{}, archive(t, file{name: "a.jar", body: zipFile(t, crowd...)}))
		last := l.Coverage.Unknown[len(l.Coverage.Unknown)-1]
		if last.Count == 0 || last.Kind != inventory.GapUnread {
			t.Errorf("gaps end in %+v, want a count of the rest", last)
		}
		if !slices.ContainsFunc(l.Coverage.Unknown, func(g inventory.Gap) bool { return g.Kind == inventory.GapBound }) {
			t.Error("no gap for the jars beyond the limit")
		}
	})
}

func TestPanicIsAGap(t *testing.T) {
	set := New(Options{})
	set.extractors = append([]Extractor{panics{}}, set.extractors...)
	l, err := set.Layer(t.Context(), blobDigest, "", bytes.NewReader(archive(t, file{name: "x.panic", body: "a"}, file{name: "usr/lib/node_modules/a/package.json", body: `{"name":"a","version":"1.0.0"}`})))
	if err != nil {
		t.Fatal(err)
	}
	wantGaps(t, l, "unread x.panic: the panics reader gave up: on purpose")
	if got := keys(l); !slices.Equal(got, []string{"a 1.0.0"}) {
		t.Errorf("after the panic: %q", got)
	}
}

type panics struct{}

func (panics) Kind() string                                 { return "panics" }
func (panics) Wants(p string) bool                          { return path.Ext(p) == ".panic" }
func (panics) Extract(context.Context, *File, *Found) error { panic("on purpose") }

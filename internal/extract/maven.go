package extract

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"io"
	"path"
	"regexp"
	"strings"
)

// coordinates name a Maven artifact.
type coordinates struct{ group, artifact, version string }

// properties reads a Java properties file, as far as pom.properties needs.
func properties(in *lines) map[string]string {
	out := map[string]string{}
	for in.next() {
		line := bytes.TrimSpace(in.line)
		if len(line) == 0 || line[0] == '#' || line[0] == '!' {
			continue
		}
		if key, value, ok := strings.Cut(string(line), "="); ok {
			out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return out
}

// pomModel reads an artifact's coordinates off its model, whose group and version may be
// those of its parent (https://maven.apache.org/pom.html, "Inheritance").
func pomModel(r io.Reader) coordinates {
	type model struct {
		Group    string `xml:"groupId"`
		Artifact string `xml:"artifactId"`
		Version  string `xml:"version"`
	}
	var project struct {
		model
		Parent model `xml:"parent"`
	}
	d := xml.NewDecoder(r)
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // coordinates are ASCII
	if d.Decode(&project) != nil {
		return coordinates{}
	}
	return coordinates{
		group:    strings.TrimSpace(cmp.Or(project.Group, project.Parent.Group)),
		artifact: strings.TrimSpace(project.Artifact),
		version:  strings.TrimSpace(cmp.Or(project.Version, project.Parent.Version)),
	}
}

// manifestHeaders reads the main section of a manifest (JAR File Specification,
// "Notes on Manifest and Signature Files"): a line that begins with a space goes on
// with the one before.
func manifestHeaders(in *lines) map[string]string {
	out := map[string]string{}
	last := ""
	for in.next() && len(in.line) > 0 {
		if in.line[0] == ' ' {
			if last != "" && len(out[last]) < lineLimit {
				out[last] += string(in.line[1:])
			}
			continue
		}
		if key, value, ok := strings.Cut(string(in.line), ":"); ok {
			last = strings.ToLower(key)
			out[last] = strings.TrimSpace(value)
		}
	}
	return out
}

// nameVersion parts "commons-lang3-3.11" before the first dash or underscore that a digit follows.
var nameVersion = regexp.MustCompile(`^(.+?)[-_]v?(\d[\w.+-]*)$`)

// extensionID is an Extension-Name that is an artifact's and not a package's.
var extensionID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// identify says what a jar without pom.properties is, by its file name and manifest.
// The group is a guess where no manifest tells it; a guess that is wrong finds no
// advisory, and none finds nothing either.
func identify(file string, manifest map[string]string) coordinates {
	stem := strings.TrimSuffix(file, path.Ext(file))
	c := coordinates{artifact: stem}
	if m := nameVersion.FindStringSubmatch(stem); m != nil {
		c.artifact, c.version = m[1], m[2]
	}
	for _, key := range []string{"implementation-version", "bundle-version", "specification-version"} {
		if c.version != "" {
			break
		}
		c.version, _, _ = strings.Cut(manifest[key], " ")
	}
	if id := manifest["extension-name"]; extensionID.MatchString(id) && strings.HasPrefix(c.artifact, id) {
		c.artifact = id // Debian calls commons-collections commons-collections3
	}
	c.group = group(c.artifact, manifest)
	return c
}

// mavenGroups has artifacts whose manifest does not tell their group, or tells another.
var mavenGroups = map[string]string{
	"guava":               "com.google.guava",
	"jna":                 "net.java.dev.jna",
	"jna-platform":        "net.java.dev.jna",
	"commons-beanutils":   "commons-beanutils",
	"commons-codec":       "commons-codec",
	"commons-collections": "commons-collections",
	"commons-fileupload":  "commons-fileupload",
	"commons-io":          "commons-io",
	"commons-lang":        "commons-lang",
	"commons-logging":     "commons-logging",
	"log4j":               "log4j",
	"mysql-connector-j":   "com.mysql",
	"postgresql":          "org.postgresql",
	"h2":                  "com.h2database",
	"xstream":             "com.thoughtworks.xstream",
	"fastjson":            "com.alibaba",
	"jackson-core":        "com.fasterxml.jackson.core",
	"jackson-databind":    "com.fasterxml.jackson.core",
	"jackson-annotations": "com.fasterxml.jackson.core",
}

// group finds the group of an artifact.
func group(artifact string, manifest map[string]string) string {
	if g := mavenGroups[artifact]; g != "" {
		return g
	}
	if strings.HasPrefix(artifact, "spring-") && strings.HasPrefix(manifest["automatic-module-name"], "spring.") {
		return "org.springframework"
	}
	var other string
	for _, key := range []string{"bundle-symbolicname", "automatic-module-name", "implementation-title"} {
		id, _, _ := strings.Cut(manifest[key], ";")
		if id = strings.TrimSpace(id); !isGroup(id) {
			continue
		}
		// org.apache.logging.log4j.core of log4j-core, org.yaml.snakeyaml of snakeyaml
		if i := strings.LastIndexByte(id, '.'); strings.HasSuffix(artifact, id[i+1:]) {
			return id[:i]
		}
		if other == "" {
			other = id
		}
	}
	if id := manifest["implementation-vendor-id"]; isGroup(id) {
		return id
	}
	if other != "" {
		return other
	}
	return artifact // as the oldest artifacts have it: junit:junit
}

// isGroup says whether id has the form of a reversed domain name.
func isGroup(id string) bool {
	return strings.IndexByte(id, '.') > 0 && !strings.ContainsAny(id, " /,()")
}

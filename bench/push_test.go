package bench

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// gunzip unpacks the layers of an image on all cores, the largest first, and throws the
// bytes away: what examining an image costs at the least.
func gunzip(l *layout) (time.Duration, error) {
	layers := append([]descriptor(nil), l.manifest.Layers...)
	for i := range layers { // few enough for the plainest sort
		for j := i; j > 0 && layers[j].Size > layers[j-1].Size; j-- {
			layers[j], layers[j-1] = layers[j-1], layers[j]
		}
	}
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range layers {
		g.Go(func() error {
			f, err := os.Open(l.path(d.Digest))
			if err != nil {
				return err
			}
			defer f.Close()
			z, err := gzip.NewReader(f)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, z)
			return err
		})
	}
	err := g.Wait()
	return time.Since(begin), err
}

// BenchmarkBig pushes and pulls the image `big` over loopback, in turns with CNCF
// distribution, each round on fresh servers and folders.
func BenchmarkBig(b *testing.B) {
	l := image(b, "big")
	img, err := l.variant(0)
	if err != nil {
		b.Fatal(err)
	}
	n := rounds(b, 5)
	var theirPush, theirPull, ourPush, ourVerdict, ourPull, unpack []time.Duration
	var peak, after int64
	for b.Loop() {
		for range n {
			took, err := gunzip(l)
			if err != nil {
				b.Fatal(err)
			}
			unpack = append(unpack, took)

			d := distribution(b, filepath.Join(b.TempDir(), "data"))
			push, pull := roundTrip(b, d, img, func() {})
			theirPush, theirPull = append(theirPush, push.blobs), append(theirPull, pull)
			d.stop(b)

			p := pratique(b, loadedData(b))
			var high int64
			push, pull = roundTrip(b, p, img, func() {
				high = p.memory(b, "VmHWM")
				allow(b, p)
			})
			ourPush, ourPull = append(ourPush, push.blobs), append(ourPull, pull)
			ourVerdict = append(ourVerdict, push.manifest)
			if push.decision != "quarantine" && push.decision != "allow" {
				b.Fatalf("the push was answered with decision %q, want a verdict", push.decision)
			}
			peak = max(peak, high)
			time.Sleep(10 * time.Second) // what stays once it rests
			after = max(after, p.memory(b, "VmRSS"))
			p.stop(b)
		}
	}
	ratio := func(x, y []time.Duration) float64 { return float64(median(x)) / float64(median(y)) }
	row("push of `big`, answer to the last blob", fmt.Sprintf("%s; distribution %s; ratio %.2f", sec(median(ourPush)), sec(median(theirPush)), ratio(ourPush, theirPush)), "ratio at most 1.3")
	row("pull of `big`", fmt.Sprintf("%s; distribution %s; ratio %.2f", sec(median(ourPull)), sec(median(theirPull)), ratio(ourPull, theirPull)), "no slower")
	row("first byte of the push to the verdict", fmt.Sprintf("%s; unpacking alone %s; ratio %.2f", sec(median(ourVerdict)), sec(median(unpack)), ratio(ourVerdict, unpack)), "ratio at most 1.25")
	row("server memory, push of `big`, highest", mb(peak), "under 200 MB")
	row("server memory, 10 s after the pull", mb(after), "under 60 MB")
	b.ReportMetric(ratio(ourPush, theirPush), "push-ratio")
	b.ReportMetric(ratio(ourPull, theirPull), "pull-ratio")
	b.ReportMetric(ratio(ourVerdict, unpack), "verdict-ratio")
}

// roundTrip pushes and pulls an image; between the two it calls ready.
func roundTrip(b *testing.B, p *process, img *pushable, ready func()) (times, time.Duration) {
	b.Helper()
	c := newClient(p.base, 0)
	defer c.http.CloseIdleConnections()
	push, err := c.push("bench/big", "1", img)
	if err != nil {
		b.Fatal(err)
	}
	ready()
	pull, err := c.pull("bench/big", "1", img)
	if err != nil {
		b.Fatal(err)
	}
	return push, pull
}

// allow takes the advisories away by which `big` is quarantined, so that it can be
// pulled: it puts dumps of one unrelated record in their place.
func allow(b *testing.B, p *process) {
	b.Helper()
	dir := b.TempDir()
	for _, ecosystem := range []string{"AlmaLinux", "Alpine", "Debian", "Go", "Maven", "PyPI", "crates.io", "npm"} {
		if err := writeDump(dir, ecosystem); err != nil {
			b.Fatal(err)
		}
	}
	p.cli(b, "advisories", "import", dir)
	for deadline := time.Now().Add(time.Minute); ; {
		out := p.cli(b, "show", "bench/big:1", "-o", "json")
		if decision(out) == "allow" {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("big is still held back: %.2000s", out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func writeDump(dir, ecosystem string) error {
	name := ecosystem
	if map[string]bool{"AlmaLinux": true, "Debian": true}[ecosystem] {
		name += ":12"
	}
	if ecosystem == "Alpine" {
		name += ":v3.11"
	}
	record := fmt.Sprintf(`{"schema_version":"1.7.0","id":"BENCH-%s-1","modified":"2026-11-01T00:00:00Z","affected":[{"package":{"ecosystem":%q,"name":"nobody-has-this"},"versions":["0.0.1"]}]}`, ecosystem, name)
	if err := os.Mkdir(filepath.Join(dir, ecosystem), 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, ecosystem, "all.zip"))
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	w, err := z.Create("BENCH-" + ecosystem + "-1.json")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, record)
	return errors.Join(err, z.Close(), f.Close())
}

// BenchmarkThrottled pushes fresh variants of `minbase` over a link of 200 Mbit/s: by
// the time the manifest is put, its layer has long been read.
func BenchmarkThrottled(b *testing.B) {
	const link = 200e6 / 8
	l := image(b, "minbase")
	n := rounds(b, 100)
	var ours, theirs, verdict []time.Duration
	for b.Loop() {
		p := pratique(b, loadedData(b))
		d := distribution(b, filepath.Join(b.TempDir(), "data"))
		us, them := newClient(p.base, link), newClient(d.base, link)
		for i := range n {
			img, err := l.variant(uint32(i + 1))
			if err != nil {
				b.Fatal(err)
			}
			t, err := us.push("bench/minbase", fmt.Sprint(i), img)
			if err != nil {
				b.Fatal(err)
			}
			if t.decision == "" || t.decision == "pending" {
				b.Fatalf("push %d was answered with decision %q, want a verdict", i, t.decision)
			}
			ours, verdict = append(ours, t.manifest), append(verdict, t.manifest-t.blobs)
			if i%10 == 0 { // a tenth is enough for its median
				t, err = them.push("bench/minbase", fmt.Sprint(i), img)
				if err != nil {
					b.Fatal(err)
				}
				theirs = append(theirs, t.manifest)
			}
		}
		us.http.CloseIdleConnections()
		them.http.CloseIdleConnections()
		p.stop(b)
		d.stop(b)
	}
	row(fmt.Sprintf("200 Mbit/s, manifest PUT to verdict, p99 of %d fresh pushes", len(verdict)),
		fmt.Sprintf("%s; median %s", ms(quantile(verdict, 0.99)), ms(median(verdict))), "p99 under 50 ms")
	row("200 Mbit/s, push of `minbase`", fmt.Sprintf("%s; distribution, which examines nothing, %s; the link alone %.2f s",
		sec(median(ours)), sec(median(theirs)), float64(l.bytes())/link), "no slower")
	b.ReportMetric(float64(quantile(verdict, 0.99).Microseconds())/1000, "p99-ms")
}

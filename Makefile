# Everything needs Go and GNU make; `make help` lists the targets. The test tools are
# built into a cache outside the checkout, from the versions pinned in tools/*/go.mod.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.NOTPARALLEL:

GO      ?= go
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pratique-test
TOOLBIN := $(CACHE)/bin

DATA    ?= ./data
LISTEN  ?= 127.0.0.1:5000

FUZZTIME ?= 60s

# Packages with goroutines of their own, where the race detector can find something.
RACE := ./internal/blob/... ./internal/catalog/... ./internal/edge/... ./internal/extract/... \
	./internal/feed/... ./internal/identity/... ./internal/ociserver/... ./internal/registry/... \
	./internal/scan/... ./internal/server/... ./internal/upkeep/...

# command=Debian package, for the tests.
NEEDS := skopeo=skopeo podman=podman buildah=buildah debootstrap=debootstrap npm=npm rpm=rpm \
	umoci=umoci /usr/sbin/dockerd=docker.io ctr=containerd docker=docker.io \
	gcc=gcc mount=mount zstd=zstd node=nodejs chromium=chromium '/usr/lib/postgresql/*/bin/initdb=postgresql'

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build bin/pratique, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/pratique ./cmd/pratique

.PHONY: run
run: build ## build and start the registry on loopback (DATA=./data LISTEN=127.0.0.1:5000)
	exec bin/pratique serve --data '$(DATA)' --listen '$(LISTEN)'

.PHONY: test
test: needs build tools unit race e2e kills ## install what is missing, run all tests

.PHONY: needs
needs: ## install the Debian packages that the tests use (as root)
	@tools/need.sh $(NEEDS)

.PHONY: unit
unit: ## run the packages' tests
	$(GO) test -p 2 $$($(GO) list ./... | grep -v -e /test/ -e /bench)

.PHONY: race
race: ## run the concurrent packages' tests under the race detector (needs cgo and gcc)
	@[ "$$(CGO_ENABLED=1 $(GO) env CGO_ENABLED)" = 1 ] && command -v $$($(GO) env CC) >/dev/null || \
		{ echo "the race detector needs cgo, and cgo a C compiler: none was found as '$$($(GO) env CC)'" >&2; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -p 2 $(RACE)

.PHONY: e2e
e2e: build tools ## drive the built binary with the public clients and the OCI conformance suite
	PRATIQUE_BIN=$(CURDIR)/bin/pratique PATH="$(TOOLBIN):$$PATH" \
		$(GO) test -count=1 -timeout 30m ./test/e2e

.PHONY: kills
kills: build ## kill the binary 200 times at random points of pushes, deletes and collections
	PRATIQUE_BIN=$(CURDIR)/bin/pratique CHAOS_KILLS=200 $(GO) test -count=1 -timeout 0 -v ./test/chaos

.PHONY: chaos
chaos: build ## the same for longer (CHAOS_KILLS=1000 CHAOS_SEED=)
	PRATIQUE_BIN=$(CURDIR)/bin/pratique CHAOS_KILLS=$(or $(CHAOS_KILLS),1000) $(GO) test -count=1 -timeout 0 -v ./test/chaos

.PHONY: fuzz
fuzz: ## fuzz every parser of outside bytes in turn (FUZZTIME=60s each)
	@grep -oE '^func Fuzz[A-Za-z0-9]+' -r --include='*_test.go' internal | sed -E 's|/[^/]+:func | |' | sort | while read -r dir target; do \
		echo "$$dir $$target"; \
		$(GO) test "./$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 200x </dev/null; \
	done

.PHONY: conformance
conformance: build tools ## run the OCI conformance suite alone
	PRATIQUE_BIN=$(CURDIR)/bin/pratique PATH="$(TOOLBIN):$$PATH" \
		$(GO) test -count=1 -v -run TestConformance ./test/e2e

.PHONY: lint
lint: $(TOOLBIN)/.lint ## gofmt, go vet, staticcheck, govulncheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		[ -z "$$unformatted" ] || { echo "not formatted as gofmt does:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	$(TOOLBIN)/staticcheck ./...
	tools/govulncheck.sh $(TOOLBIN)/govulncheck ./...

.PHONY: bench
bench: build $(TOOLBIN)/.distribution $(TOOLBIN)/.trivy ## measure the figures of bench/README.md (IMAGES=folder of OCI layouts)
	@tools/need.sh nginx=nginx-light
	PRATIQUE_BIN=$(CURDIR)/bin/pratique PATH="$(TOOLBIN):$$PATH" IMAGES="$(IMAGES)" \
		$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 120m ./bench

.PHONY: tools
tools: $(TOOLBIN)/.clients $(TOOLBIN)/.acme $(TOOLBIN)/.artifacts $(TOOLBIN)/.cosign $(TOOLBIN)/.conformance $(TOOLBIN)/.lint $(CACHE)/issuers/.done ## build the test tools into the cache

$(TOOLBIN)/.trivy: export GOEXPERIMENT = jsonv2
# One stamp a group: a changed go.mod or go.sum builds its tools anew.
$(TOOLBIN)/.%: tools/%/go.mod tools/%/go.sum
	@mkdir -p $(TOOLBIN)
	cd tools/$* && CGO_ENABLED=0 GOFLAGS=-buildvcs=false $(GO) build -trimpath -o $(TOOLBIN)/ tool
	@touch $@

# Issuers of identities, on Node.js. The lock file names no addresses: npm's own configuration does.
$(CACHE)/issuers/.done: $(wildcard tools/issuers/*)
	@mkdir -p $(CACHE)/issuers
	cp tools/issuers/* $(CACHE)/issuers/
	cd $(CACHE)/issuers && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: clean
clean: ## remove what was built here; the cache stays
	rm -rf bin

# make builds build/lifeboat: one static file that holds the whole product.

GO ?= go
GOFLAGS_BUILD = -trimpath -ldflags "-s -w -buildid="
export CGO_ENABLED = 0

.PHONY: all base clean setup test test-unit test-root test-kernel test-machines test-deep demo bench

all: build/lifeboat

# The rescue base is built again only when something in it changed.
base:
	@$(GO) run ./internal/mkbase

.PHONY: build/lifeboat
build/lifeboat: base
	@$(GO) build $(GOFLAGS_BUILD) -o $@ ./cmd/lifeboat

# Installs what the tests and the demo need.
setup:
	@bash tests/setup.sh

# A server backs itself up, loses its disk, and comes back.
demo: setup all
	@$(GO) run ./tests/demo build/lifeboat build/demo

# Measures beside GNU tar and ReaR what the design has bars for; takes long.
# Parts by name: make bench BENCH="archive rescue"
bench: setup all
	@$(GO) build $(GOFLAGS_BUILD) -o build/bench/pack ./tests/bench/pack
	@$(GO) run ./tests/bench build/lifeboat build/bench/pack build/bench $(BENCH)

# Everything that CI runs.
test: setup all test-unit test-root test-kernel test-machines

test-unit:
	$(GO) vet ./... && $(GO) vet -tags root,kernel,machines,deep ./...
	$(GO) test ./...

# As root: loop devices, network namespaces, the tools of this machine.
test-root: setup all
	$(GO) test -count=1 -tags root ./...

# Under our own init, in a machine with blank disks.
test-kernel: setup all
	$(GO) test -count=1 -timeout 45m -tags kernel ./tests/kernel/

# Real Debian systems, real media: the core scenarios.
test-machines: setup all
	$(GO) test -count=1 -timeout 80m -v -tags machines ./tests/machines/

# Every scenario; the results go to docs/proven.md.
test-deep: setup all
	$(GO) test -count=1 -timeout 45m -tags kernel,deep -run 'TestSSH$$' ./tests/kernel/
	LIFEBOAT_PROVEN=$(CURDIR)/docs/proven.md $(GO) test -count=1 -timeout 6h -v -tags machines,deep ./tests/machines/

clean:
	rm -rf build
	rm -f builder/base/data/base.cpio.zst builder/base/data/base.cpio.zst.new

# make builds build/lifeboat: one static file that holds the whole product.

GO ?= go
GOFLAGS_BUILD = -trimpath -ldflags "-s -w -buildid="
export CGO_ENABLED = 0

.PHONY: all base clean

all: build/lifeboat

# The rescue base is built again only when something in it changed.
base:
	@$(GO) run ./internal/mkbase

.PHONY: build/lifeboat
build/lifeboat: base
	@$(GO) build $(GOFLAGS_BUILD) -o $@ ./cmd/lifeboat

clean:
	rm -rf build
	rm -f builder/base/data/base.cpio.zst builder/base/data/base.cpio.zst.new

# SPDX-License-Identifier: Apache-2.0
# A short front for Meson: every target sets up what it needs.
BUILD ?= build
.PHONY: all build ui demo test bench lint format clean install deps

all: build
deps:
	@scripts/install-deps
build: deps
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) >/dev/null
	@ninja -C $(BUILD) --quiet
# The web console: needs Node.js and its packages, which nothing else does.
ui:
	@scripts/build-ui
demo: build
	@scripts/demo
test: build
	@tests/run
bench: build
	@bench/run
lint: deps
	@scripts/lint
format:
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' | grep -v '\.def$$' | xargs clang-format -i
install: build
	@meson install -C $(BUILD) --no-rebuild
clean:
	@rm -rf $(BUILD) build-*

# Everything a newcomer, a developer or the CI runs. Each target does its own set-up on a Debian 12
# machine that has Rust by rustup: it installs the packages that are missing and finds (or makes) a
# compiler for the policies. Start with `make run`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
VIADUCT := $(TARGET_DIR)/release/viaduct
PACKAGES := tests/setup/packages.sh
WASM_TOOLCHAIN := tests/setup/wasm-toolchain.sh

# A policy in Rust is a folder under policies/ with a crate; other languages have targets of their own.
POLICIES ?= $(patsubst policies/%/Cargo.toml,%,$(wildcard policies/*/Cargo.toml))
LANGUAGES := tests/setup/languages.sh
PYTHON_POLICY := policies/python-registrar
C_POLICY := policies/c-registrar
# The example configuration, and the copy of it that `make run` uses and you may edit.
RUN_EXAMPLE ?= router/daemon/examples/loopback.toml
RUN_CONFIG ?= run/viaduct.toml
# How long `make fuzz` spends on each target, and how long `make test` does.
FUZZ_SECONDS ?= 60
FUZZ_TEST_SECONDS ?= 30
# Simulations that `make sim` runs, from which seed on; with SEED it shows that one alone.
SEEDS ?= 10000
# How often `make swap-soak` swaps policies.
SWAPS ?= 60
# How many seconds `make soak` loads a router.
DURATION ?= 120
FROM ?= 0
# Tests of whole routers that run again with AF_XDP in place of sockets, over IPv4 and over IPv6.
# Left out: what looks at a namespace or a cable itself, and is over AF_XDP or in namespaces already.
OVER_XDP := path auth keepalive phone swap churn lifecycle hostile destinations http crash disk \
	cluster overload conformance
OVER_XDP_IPV6 := path auth keepalive phone swap hostile http conformance
# And in a VLAN. Where the kernel has none, `make -C kmod qemu-vlan` boots one that has.
OVER_XDP_VLAN := path auth keepalive phone
OVER_XDP_VLAN_IPV6 := path phone
# Which router `make bench` measures: that of `make optimised`, or with `release` that of `make run`.
BUILD ?= optimised
BENCHED = $(TARGET_DIR)/$(BUILD:optimised=optimised/release)
# More arguments for the test runner, the benchmark: make test ARGS='-p viaduct-tests'
ARGS ?=

export CARGO_TERM_COLOR ?= auto

.PHONY: help setup run test swap-soak soak bench-tool optimised bench kernel-debug sim sim-mutants fuzz deny sbom check fmt policies \
	python-policy c-policy build clean-run

help:
	@echo 'make run      a router on loopback, ready for two phones'
	@echo 'make test     every test; what the CI runs'
	@echo 'make optimised  the router for operation, cheaper by a sixth to a third: built, put under load, built again'
	@echo 'make bench    requests per CPU-second, beside Kamailio; what policies and relayed packets cost (needs a quiet machine)'
	@echo 'make swap-soak  another version of a policy each second, SWAPS=$(SWAPS) times, under full load'
	@echo 'make soak     a router under load and faults for DURATION=$(DURATION) seconds; slopes and a plot'
	@echo 'make kernel-debug  the kernel module on kernels that find leaks and lock faults, user-mode Linux and in QEMU'
	@echo 'make sim      SEEDS=$(SEEDS) simulations with faults; one of them again: make sim SEED=7'
	@echo 'make fuzz     each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make check    formatting and lints'
	@echo 'make deny     licences, sources, duplicates and known faults of what it is made of'
	@echo 'make sbom     what that is: a CycloneDX document'
	@echo 'make python-policy  a registrar in Python, built and tested; c-policy: one in C'
	@echo 'make setup    only the set-up'

setup:
	@$(PACKAGES) build wasm
	@$(WASM_TOOLCHAIN) >/dev/null

build:
	@$(PACKAGES) build
	$(CARGO) build --release -p viaduct

# One recipe, so that the compiler is looked for once.
policies: build
	@$(PACKAGES) wasm
	@rustc=$$($(WASM_TOOLCHAIN)); \
	for policy in $(POLICIES); do \
		VIADUCT_WASM_RUSTC=$$rustc $(VIADUCT) policy build policies/$$policy; \
	done

# A registrar in Python: its tools from PyPI into a folder of their own, built, packed, tested.
python-policy: build
	tools=$$($(LANGUAGES) python); cd $(PYTHON_POLICY); \
	$$tools/componentize-py -d $(abspath guest-sdk/wit) -d wit \
		-w viaduct:python-registrar/registrar componentize --stub-wasi app -p . \
		-o $(TARGET_DIR)/python/app.wasm
	$(VIADUCT) policy pack $(TARGET_DIR)/python/app.wasm $(PYTHON_POLICY)
	$(VIADUCT) policy test $(PYTHON_POLICY) --component $(PYTHON_POLICY)/python-registrar.wasm

# A registrar in C: bindings made by wit-bindgen, compiled by Debian's clang, packed, tested.
c-policy: build
	tools=$$($(LANGUAGES) c); \
	$$tools/wit-bindgen c guest-sdk/wit --world policy --out-dir $(TARGET_DIR)/c/policy
	clang --target=wasm32-wasi -mexec-model=reactor -std=c11 -Os -Wall -Wextra -Werror \
		-I $(TARGET_DIR)/c/policy -Wl,--strip-all,-z,stack-size=16384 \
		-o $(TARGET_DIR)/c/registrar.wasm \
		$(C_POLICY)/registrar.c $(TARGET_DIR)/c/policy/policy.c \
		$(TARGET_DIR)/c/policy/policy_component_type.o
	$(VIADUCT) policy pack $(TARGET_DIR)/c/registrar.wasm $(C_POLICY)
	$(VIADUCT) policy test $(C_POLICY) --component $(C_POLICY)/c-registrar.wasm

run: policies $(RUN_CONFIG)
	$(VIADUCT) run --config $(RUN_CONFIG)

$(RUN_CONFIG): $(RUN_EXAMPLE)
	@mkdir -p $(@D)
	@if [ -e $@ ]; then \
		echo "$@ is older than $<; yours is kept (make clean-run starts afresh)"; touch $@; \
	else cp $< $@; fi

# Forgets the registrations and the configuration of `make run`.
clean-run:
	rm -rf $(dir $(RUN_CONFIG))

# Runs of a part say --workspace as well: a package alone would want other features of what it depends
# on, and all that is built a second time.
#
# Property tests draw the same cases each time, so that a failure speaks of the change at hand; for
# others: PROPTEST_RNG_SEED=7 make test
test: policies
	@$(PACKAGES) test fuzz
	@export VIADUCT_BIN=$(VIADUCT) VIADUCT_WASM_RUSTC=$$($(WASM_TOOLCHAIN) 2>/dev/null); \
	export PROPTEST_RNG_SEED=$${PROPTEST_RNG_SEED-1}; \
	export VIADUCT_SKIPPED=$$(mktemp); trap 'rm -f "$$VIADUCT_SKIPPED"' EXIT; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --config-file tests/setup/nextest.toml $(ARGS); \
		again="$(CARGO) nextest run --workspace --config-file tests/setup/nextest.toml"; \
		over="$$again -E package(viaduct-tests)-test(kamailio)"; \
		VIADUCT_OVER=af_xdp $$over $(OVER_XDP:%=--test %); \
		VIADUCT_OVER=af_xdp_ipv6 $$over $(OVER_XDP_IPV6:%=--test %); \
		if no_vlans=$$(tests/setup/vlans.sh); then \
			VIADUCT_OVER=af_xdp_vlan $$over $(OVER_XDP_VLAN:%=--test %); \
			VIADUCT_OVER=af_xdp_vlan_ipv6 $$over $(OVER_XDP_VLAN_IPV6:%=--test %); \
		fi; \
		for relay in xdp xdp-generic; do VIADUCT_RELAY=$$relay $$again --test relay; done; \
		$(CARGO) test --workspace --doc; \
	else \
		$(CARGO) test --workspace --no-fail-fast $(ARGS); \
	fi; \
	for policy in $(POLICIES); do $(VIADUCT) policy test policies/$$policy; done; \
	for language in python c; do \
		if why=$$($(LANGUAGES) $$language 2>&1 >/dev/null); then $(MAKE) $$language-policy; \
		else echo "skipped: policies in $$language: $${why##*$$'\n'}" | tee -a "$$VIADUCT_SKIPPED"; fi; \
	done; \
	$(MAKE) -C kmod test; \
	if why=$$({ $(PACKAGES) kernel && kmod/tests/kernel.sh image; } 2>&1 >/dev/null); then \
		$(MAKE) -C kmod qemu-test; \
		if [ -n "$${no_vlans:-}" ]; then \
			VIADUCT_BIN=$(VIADUCT) $(MAKE) -C kmod qemu-vlan; \
		fi; \
	else \
		echo "skipped: the kernel module in QEMU: $${why##*$$'\n'}" | tee -a "$$VIADUCT_SKIPPED"; \
		[ -z "$${no_vlans:-}" ] || \
			echo "skipped: routers in a VLAN: $$no_vlans" | tee -a "$$VIADUCT_SKIPPED"; \
	fi; \
	tests/setup/deny.sh; \
	tests/setup/sbom.py >/dev/null; \
	tests/setup/fuzz.sh $(FUZZ_TEST_SECONDS) 2>&1 | grep -aE '^(fuzz|error|skipped)|panicked|^Done'; \
	if [ -s "$$VIADUCT_SKIPPED" ]; then echo "not run here:"; sort -u "$$VIADUCT_SKIPPED"; fi

# Versions change every second, SWAPS times, under full load; `make test` does it five times.
swap-soak: policies
	VIADUCT_BIN=$(VIADUCT) VIADUCT_SWAPS=$(SWAPS) \
		VIADUCT_WASM_RUSTC=$$($(WASM_TOOLCHAIN) 2>/dev/null) \
		$(CARGO) test --workspace --test churn -- --nocapture

# A whole router for DURATION seconds; `make test` does it for 20. Slopes of memory, descriptors and
# latencies are printed and judged, the samples are in target/soak.
soak: policies
	@$(PACKAGES) test
	VIADUCT_BIN=$(VIADUCT) VIADUCT_SOAK_S=$(DURATION) VIADUCT_SOAK_REPORT=$(TARGET_DIR)/soak \
		$(CARGO) test --workspace --test soak -- --nocapture nothing_is_lost

bench-tool: policies
	@$(PACKAGES) bench
	$(CARGO) build --release -p viaduct-tests --bin bench

# The router for operation: built, put under load, and built again for what it did there. Without BOLT
# it costs a tenth more, and is built all the same.
optimised: bench-tool
	@$(PACKAGES) test
	@$(PACKAGES) optimised || true
	tests/setup/optimised.sh $(TARGET_DIR)/release/bench

# Alone on two cores: core 0 serves, core 1 generates. See tests/bench/main.rs.
bench: bench-tool $(filter optimised,$(BUILD))
	$(TARGET_DIR)/release/bench --viaduct $(BENCHED)/viaduct \
		--viaduct-config tests/bench/viaduct.toml $(ARGS)
	@[ $(BUILD) = optimised ] || $(CARGO) build --release -p viaduct --example message_cost
	$(BENCHED)/examples/message_cost
	$(MAKE) -C kmod qemu-bench

# Builds the distribution's kernel with our configuration (kmod/tests/kernel-debug) twice, once and for all;
# then boots each with the module and runs the module's tests.
kernel-debug:
	$(MAKE) -C kmod kernel-debug

sim: policies
	$(CARGO) run --release -p viaduct-sim -- \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM)) $(ARGS)

# Does the simulation find faults? Broken copies of the router must fail (takes long).
sim-mutants: policies
	tests/sim/mutants.sh

fuzz:
	@$(PACKAGES) build fuzz
	@tests/setup/fuzz.sh $(FUZZ_SECONDS) $(ARGS)

deny:
	@tests/setup/deny.sh

# Every crate of the program, with version, licence and checksum.
sbom:
	@mkdir -p $(TARGET_DIR)
	@tests/setup/sbom.py >$(TARGET_DIR)/viaduct.cdx.json
	@echo $(TARGET_DIR)/viaduct.cdx.json

check:
	@$(PACKAGES) build
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

# What people type. `make` alone shows the list.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO ?= cargo
# Where scripts/setup-dev.sh puts what it cannot install for the whole machine.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help build run demo demo-down demo-stand-in test soak fuzz check bench bench-micro golden-release clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the host and the plugins, optimised
	@scripts/setup-dev.sh build
	$(CARGO) build --release -p etl-host -p login-analytics -p login-analytics-demo

run: build ## the main job on the embedded default: two SQLite shards into a SQLite sink, twice
	@scripts/demo.sh

demo: ## the main job on two SQL Servers and a PostgreSQL by docker compose
	@scripts/demo-docker.sh check
	@$(MAKE) --no-print-directory build
	@scripts/demo-docker.sh

demo-down: ## remove the servers of `make demo` with all their data
	@scripts/demo-docker.sh down

demo-stand-in: build ## the job of `make demo` without Docker, on stand-ins for SQL Server
	@scripts/setup-dev.sh test
	$(CARGO) build --release -p etl-testkit
	@scripts/demo-stand-in.sh

# Plugins that the tests load, good ones and bad ones.
FIXTURES := $(addprefix -p ,$(shell sed -n 's/^name = "\(fixture-.*\)"$$/\1/p' host/testkit/fixtures/*/Cargo.toml))

# Tests and checks build everything once, with the second driver of SQL Server, which `make build` leaves out.
FEATURES := --features etl-host/mssql-tds,etl-plugin-api/testkit

# The plugins are built before, or the first test that loads one would wait for the compiler.
# One server for all tests; it goes when the command ends, however it ends.
test: ## all tests; starts a PostgreSQL of its own
	@scripts/setup-dev.sh test
	$(CARGO) test --workspace $(FEATURES) --all-targets --no-run
	$(CARGO) build -p login-analytics $(FIXTURES)
	"$${CARGO_TARGET_DIR:-target}/debug/etl-testkit" golden build
	"$${CARGO_TARGET_DIR:-target}/debug/etl-testkit" postgres -- $(CARGO) test --workspace $(FEATURES) --all-targets --no-fail-fast
	$(CARGO) test --doc $(FEATURES) -p etl-plugin-api -p etl-host -p etl-testkit

# SOAK_SEED repeats the choices of an earlier run, SOAK_CASE one case of it.
SOAK_MINUTES ?= 30

soak: ## break everything for SOAK_MINUTES (30), and count what was lost, doubled or falsely reported; then fuzz
	@scripts/setup-dev.sh test
	$(CARGO) build -p etl-testkit -p fixture-kinds -p fixture-full-disk
	$(CARGO) test -p etl-host $(FEATURES) --test faults --no-run
	SOAK_MINUTES=$(SOAK_MINUTES) "$${CARGO_TARGET_DIR:-target}/debug/etl-testkit" postgres -- $(CARGO) test -p etl-host $(FEATURES) --test faults
	@$(MAKE) --no-print-directory fuzz

check: ## format, lints, documentation, licences, shell scripts, compose file
	@scripts/setup-dev.sh check
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path host/fuzz/Cargo.toml --check
	rustfmt --check host/testkit/golden/*/src/main.rs host/testkit/golden/plugins/*/src/lib.rs
	$(CARGO) clippy --workspace $(FEATURES) --all-targets -- -D warnings
	$(CARGO) check -p etl-host
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace $(FEATURES) --no-deps
	$(CARGO) deny --log-level error check bans licenses sources
	shellcheck .ci/run scripts/*.sh scripts/systemd/*.sh host/testkit/src/postgres/*.sh
	check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

fuzz: ## FUZZ_SECONDS (600) of any input for each fuzz target: configurations, rows of SQL Server
	@scripts/setup-dev.sh fuzz
	@CARGO="$(CARGO)" scripts/fuzz.sh

bench: ## speed and peak memory, beside loops that only move the rows; writes docs/benchmarks.md
	@scripts/setup-dev.sh test
	$(CARGO) bench -p etl-host $(FEATURES) --bench speed
	$(CARGO) bench -p etl-host $(FEATURES) --bench main_job
	$(CARGO) bench -p etl-host $(FEATURES) --bench bad_rows
	$(CARGO) bench -p etl-host $(FEATURES) --bench startup

bench-micro: ## parts of a row's way, each alone on one core: decode, encode, boundary, transform, and their change since the last time
	@scripts/setup-dev.sh test
	$(CARGO) bench -p etl-host $(FEATURES) --bench micro
	$(CARGO) bench -p login-analytics --bench transform

golden-release: ## keep plugin-api as a released minor: its archive, for the golden plugins; docs/abi.md
	$(CARGO) run -p etl-testkit -- golden release

clean: ## remove what was built, and the demo's data
	$(CARGO) clean
	rm -rf data plugins/*.so

# What one does here, by name: `just`, `just check`…

[private]
default:
    @just --list --unsorted

# A broker, a certificate and a page in one process
demo:
    cargo run --release -- demo

# What a change must pass; CI runs the same
check: fmt clippy doc deny test

# Format
fmt:
    cargo fmt --all --check

# Lints, with and without the demo
clippy:
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --all-targets --no-default-features -- -D warnings

# Documentation
doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

# Licenses, advisories and sources of the dependencies, where cargo-deny is installed
deny:
    @if command -v cargo-deny >/dev/null; then cargo deny check; else echo 'cargo-deny is not installed; skipped'; fi

# All tests; for instance `just test rust`, `just test interop --quick`, `just test handshake`
test *ARGUMENTS:
    tests/run {{ ARGUMENTS }}

# Instructions of the pure parts against the accepted figures; for instance `just bench-check skim` (needs valgrind)
bench-check *WORDS:
    cargo bench --locked --bench instructions -- {{ WORDS }}

# Accept the new figures
bench-accept *WORDS:
    cargo bench --locked --bench instructions -- --accept {{ WORDS }}

# Whether Dockerfile, systemd units, composition, Kubernetes manifests, alerts and dashboard hold together
deploy:
    deploy/check

# The gateway beside nginx, HAProxy, Caddy and Traefik; `--quick` in three minutes, `--help` for more
bench-peers *ARGUMENTS:
    tests/bench/run {{ ARGUMENTS }}

# The gateway under load while it is reloaded and upgraded, its brokers die, it says goodbye; `--quick` in two minutes
endurance *ARGUMENTS:
    cargo bench --locked --bench endurance -- {{ ARGUMENTS }}

# Feed a parser with noise for a while: connect, frames or packets (needs cargo-fuzz and nightly Rust)
fuzz TARGET SECONDS="60":
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{ TARGET }} -- -max_total_time={{ SECONDS }}

# The words of this project. CI says `just ci` and nothing else.

set shell := ["bash", "-euo", "pipefail", "-c"]

host := `rustc -vV | sed -n 's/^host: //p'`

# list the words
default:
    @just --list --unsorted

# all that CI runs
ci: check test

# formatting, lints, docs of private items too, house rules
check: rules
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo clippy -p nursery --no-default-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --document-private-items

# unit, integration and doc tests of everything but the benchmarks
test:
    cargo test --workspace --exclude nursery-bench

# the show-piece: a server that finishes its work before it stops
demo:
    cargo run --example 08_graceful_shutdown

# what must hold for any program: properties of the whole corpus, and its traces under many seeds
soak:
    cargo test --release -p nursery-conformance --test properties -- --ignored
    for budget in 1 2 64; do cargo run --release -q -p nursery-conformance -- --seeds 200 --budget $budget tests/conformance/corpus; done

# fresh random programs, on trio (`pip install trio`) and on nursery
soak-trio count="5000" seed="1000000":
    python3 tests/conformance/soak.py {{count}} {{seed}}

# thousands of connections in a storm of cancellations
stress:
    cargo test --release --test stress -- --ignored --nocapture

# build the book, into book/book
book:
    command -v mdbook >/dev/null || cargo install mdbook --locked
    mdbook build book

# every page of the book in a browser (`chromium`): wide and narrow, light and dark
book-shots: book
    cargo test --test book_shots -- --ignored --nocapture

# measure nursery and its peers side by side
bench *args:
    cargo run --release -p nursery-bench -- {{args}}

# core tests under a sanitizer, `address` or `thread` (nightly, with rust-src); some forget futures on purpose, which leaks
sanitize kind="address":
    ASAN_OPTIONS=detect_leaks=0 RUSTFLAGS="-Zsanitizer={{kind}} --cfg nursery_no_pool" cargo +nightly test -Zbuild-std -p nursery --lib --tests --target {{host}}

# core tests under valgrind
valgrind:
    cargo test -p nursery --lib --tests --config 'target.{{host}}.runner = "valgrind --quiet --error-exitcode=1 --leak-check=full"'

# core tests under Miri: strict provenance, random layout (nightly)
miri:
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-strict-provenance -Zmiri-ignore-leaks" RUSTFLAGS="-Zrandomize-layout --cfg nursery_no_pool" cargo +nightly miri test -p nursery --lib --tests

# licences, duplicates and sources of what we depend on
deny:
    command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
    cargo deny check bans licenses sources

# one spelling of `SAFETY`, and a first line that says what a file is for
[private]
rules:
    #!/usr/bin/env bash
    set -euo pipefail
    sources() { find . -name '*.rs' -not -path '*/target/*' -exec "$@" {} +; }
    spelling=$(sources grep -HnEi '(^|[^/])//[[:space:]]*safety' | grep -v '// SAFETY: ' || true)
    headless=$(sources awk 'FNR == 1 && !/^\/\/! /{ print FILENAME }')
    [ -z "$spelling$headless" ] || { printf '%s\n' "$spelling" '↑ the only spelling is `// SAFETY: …`' "$headless" '↑ the first line says what the file is for: `//! …`'; exit 1; }

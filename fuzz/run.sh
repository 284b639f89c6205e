#!/bin/sh
# Fuzzes one target, or all of them: `fuzz/run.sh [TARGET [RUNS]]`; 10 million runs each unless said otherwise. Needs a C++ compiler and nothing beyond stable Rust.
# What was found to be of interest lies in fuzz/corpus, an input that broke something in fuzz/found; `run.sh TARGET 1` with the file as third argument repeats it.
set -e
cd "$(dirname "$0")"
targets=${1:-batch snapshot message bolt request native gateway}
runs=${2:-10000000}
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo run -q --bin seeds

# What `cargo fuzz` would add, without its sanitizers, which need a nightly compiler: the crates below forbid unsafe code.
export RUSTFLAGS="-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1 --cfg fuzzing"
for target in $targets; do
    mkdir -p "corpus/$target" "seeds/$target" found
    cargo build -q --release --target "$triple" --bin "$target"
    binary=target/$triple/release/$target
    if [ -n "$3" ]; then
        "$binary" "$3"
    else
        "$binary" "corpus/$target" "seeds/$target" -runs="$runs" -max_len=40000 -rss_limit_mb=1024 -timeout=10 -artifact_prefix="found/$target-" -print_final_stats=1
    fi
done

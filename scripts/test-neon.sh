#!/usr/bin/env bash
# Builds the kernels' tests for AArch64 and runs them under qemu: NEON must give the bits of the scalar specification.
# So must the decoders of archives: the stored ones, a kind each, are read there.
# Needs the target (rustup target add aarch64-unknown-linux-gnu), a cross linker and qemu-user
# (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user); says "skipped" where one cannot be had.
# Arguments go to the test binary: scripts/test-neon.sh dense
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
skip() { echo "skipped: $*"; exit 0; }

command -v cargo >/dev/null || skip "cargo is missing"
command -v aarch64-linux-gnu-gcc >/dev/null || skip "no aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)"
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || skip "no qemu-aarch64 (Debian: qemu-user)"
if ! rustc --target "$target" --print target-libdir 2>/dev/null | xargs -r test -d; then
    command -v rustup >/dev/null || skip "the standard library for $target is missing, and rustup to fetch it"
    rustup target add "$target" || skip "rustup cannot fetch $target"
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L /usr/aarch64-linux-gnu"
# qemu is slow: fewer cases than natively, over the same properties.
export PROPTEST_CASES="${PROPTEST_CASES:-16}"
cargo test --release --locked -p brevity-kernels --lib --target "$target" -- "$@"
cargo test --release --locked -p brevity-bytes --test stored --test lm --target "$target" -- archives_of
echo "NEON: all tests passed under $("$qemu" --version | head -n 1)"

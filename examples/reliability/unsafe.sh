#!/usr/bin/env bash
# The `unsafe` blocks of `src/` under Miri and under AddressSanitizer. Needs a nightly Rust with the component miri.
#
#     examples/reliability/unsafe.sh miri [FOLDER]      # some minutes
#     examples/reliability/unsafe.sh address [FOLDER]   # builds everything anew in FOLDER, then minutes of tests
#
# Miri cannot run what asks the processor what it is, as the library of matrix products does: in its place stands one of
# three loops that reads and writes exactly what it was told to, so that every pointer and stride that we hand over is
# checked. Our own product runs without vectors. AddressSanitizer runs the tests with everything as it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${2:-$(mktemp -d)}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
case "${1:-}" in
address)
    cd "$root"
    export RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=0:detect_odr_violation=0"
    # Peaks of memory are the sanitizer's, not the program's.
    cargo +nightly test --release --locked --lib --target x86_64-unknown-linux-gnu --target-dir "$folder" -- \
        nn:: checkpoint:: files:: index:: picture:: sampling:: fuzz::
    ;;
miri)
    # Beside each other: what lies above a package may be taken for its workspace, as a `Cargo.toml` in /tmp is.
    mkdir -p "$folder/tmp" "$folder/own"
    export TMPDIR="$folder/tmp"
    folder="$folder/own"
    mkdir -p "$folder/src" "$folder/products/src"
    cat >"$folder/Cargo.toml" <<'END'
[package]
name = "own-unsafe"
version = "0.0.0"
edition = "2024"
[dependencies]
gemm = { path = "products" }
memmap2 = "0.9"
rayon = "1"
half = "2"
pulp = { version = "0.22", features = ["x86-v4"] }
serde_json = "1"
[workspace]
END
    cat >"$folder/products/Cargo.toml" <<'END'
[package]
name = "gemm"
version = "0.0.0"
edition = "2024"
END
    cat >"$folder/products/src/lib.rs" <<'END'
//! dst = alpha·dst + beta·lhs·rhs, in the signature of the crate gemm.
pub enum Parallelism { None }
#[allow(clippy::too_many_arguments, clippy::missing_safety_doc)]
pub unsafe fn gemm(
    m: usize, n: usize, k: usize, dst: *mut f32, dst_cs: isize, dst_rs: isize, read_dst: bool, lhs: *const f32,
    lhs_cs: isize, lhs_rs: isize, rhs: *const f32, rhs_cs: isize, rhs_rs: isize, alpha: f32, beta: f32, _: bool,
    _: bool, _: bool, _: Parallelism,
) {
    for i in 0..m as isize {
        for j in 0..n as isize {
            unsafe {
                let at = dst.offset(i * dst_rs + j * dst_cs);
                let term = |l| *lhs.offset(i * lhs_rs + l * lhs_cs) * *rhs.offset(l * rhs_rs + j * rhs_cs);
                let sum: f32 = (0..k as isize).map(term).sum();
                *at = beta * sum + if read_dst { alpha * *at } else { 0.0 };
            }
        }
    }
}
END
    # The one function of its file that is needed, and what it stands on.
    sed -n '/^\/\/\/ A type of which every pattern/,/^#\[cfg(test)\]/p' "$root/src/nn/weight.rs" |
        sed '$d' >"$folder/src/aligned.rs"
    grep -q 'fn aligned' "$folder/src/aligned.rs"
    cat >"$folder/src/lib.rs" <<END
#![allow(dead_code)]
mod nn {
    pub mod cpu {
        #[path = "$root/src/nn/cpu/gemm/mod.rs"]
        mod gemm;
        #[path = "$root/src/nn/cpu/math.rs"]
        mod math;
        #[path = "$root/src/nn/cpu/scratch.rs"]
        mod scratch;
        #[path = "$root/src/nn/cpu/tile.rs"]
        mod tile;
    }
}
#[path = "$root/src/checkpoint/mapped.rs"]
mod mapped;
#[path = "$root/src/shown.rs"]
mod shown;
pub use shown::escaped;
mod aligned {
    use half::{bf16, f16};
    include!("aligned.rs");
    #[test]
    fn numbers_are_read_where_they_lie() {
        let bytes: Vec<u8> = (0..64).collect();
        for from in 0..16 {
            for to in from..40 {
                let part = &bytes[from..to];
                if let Some(all) = aligned::<f32>(part) {
                    assert!(all.iter().enumerate().all(|(i, n)| n.to_ne_bytes() == part[4 * i..4 * i + 4]));
                }
                assert_eq!(aligned::<f16>(part).map(<[_]>::len), aligned::<bf16>(part).map(<[_]>::len));
            }
        }
    }
}
#[cfg(test)]
mod sampling {
    pub struct Generator(u64);
    impl Generator {
        pub fn new(seed: u64) -> Self { Self(seed) }
        pub fn randn(&mut self, n: usize) -> Vec<f32> {
            (0..n).map(|i| ((i as u64 * 7919 + self.0 * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
        }
    }
}
END
    cd "$folder"
    # rayon's crossbeam-epoch goes from a field to what it is in, which stacked borrows do not allow, and tree
    # borrows do.
    export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-permissive-provenance"
    cargo +nightly miri test --lib -- --skip math
    ;;
*)
    sed -n '2,10p' "$0"
    exit 2
    ;;
esac

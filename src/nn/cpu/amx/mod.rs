//! Products on AMX, the matrix unit of Intel's server processors since 2023, in f32.
//!
//! The unit multiplies bf16 and sums in f32, sixteen times as many products a cycle as AVX-512 does in f32. A number
//! of 24 bits is the sum of three of 8, x = x₁ + x₂ + x₃, of falling size, so that a product of two is a sum of such
//! products, each exact in f32: Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 artificial intelligence
//! datatype for higher-precision computations".
//!
//! # Numerics
//! Six of the nine products are taken, a₁b₁ + a₁b₂ + a₂b₁ + a₂b₂ + a₁b₃ + a₃b₁, which are a·b within 1e-8 of it in the
//! root mean square; a sum of them is as good as one in f32: 1.4e-7 to 4e-7 for 320 to 2880 terms of unit normals. (With
//! the first three alone it would be 4e-6, more than Winograd's convolutions have.) Numbers below 2⁻¹²⁶ count as zero,
//! and an infinity makes its sums NaN. How an element is rounded depends on the length of its sum alone, not on the size
//! of the product around it.

mod conv;
mod operand;
mod product;
mod tiles;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use self::conv::convolve;
pub(super) use self::operand::{Line, Operand, Packed, Side, lines};
pub(super) use self::product::{multiply, multiply_rows, product};

/// Terms of a sum that one step of the unit takes.
const TERMS: usize = 32;
/// Rows and columns of the output that stay in its registers: two tiles each way.
const BLOCK: usize = 32;

/// Numbers of 8 bits that make one of 24.
const PIECES: usize = 3;

/// Set by [`without`].
static LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// Computes without the unit from now on, if nothing has been computed yet: to measure what other machines do.
#[doc(hidden)]
pub fn without() {
    LEFT_OUT.store(true, Ordering::Relaxed);
}

/// Whether this machine has the unit, and the system lets this process use it.
pub(super) fn available() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        // So that tests can see what a machine without it computes.
        let left_out = cfg!(test) && std::env::var_os("CONES_WITHOUT_AMX").is_some();
        !left_out && !LEFT_OUT.load(Ordering::Relaxed) && tiles::request()
    });
    *FOUND
}

//! The instructions that this machine has, and the same sums without them for tests.

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
use super::amx;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::dot;
use super::{LINES, TILE};

/// Whether this processor has instructions for bf16, and the system lets it use them.
pub(crate) fn available() -> bool {
    !matches!(Instructions::new(), Instructions::None)
}

/// The right to use the instructions, on the thread that asked for it.
pub(in super::super) enum Instructions {
    /// AMX: sixteen times as many products in a cycle as of f32.
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    Tiles(amx::Configured),
    /// AVX-512 BF16: twice as many.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    DotProducts(dot::Detected),
    /// Those of every processor.
    None,
}

impl Instructions {
    /// The best there are.
    pub(in super::super) fn new() -> Self {
        Self::all().next().unwrap_or(Self::None)
    }

    /// All there are, the best first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let all: [fn() -> Option<Self>; _] = [
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
            || amx::Configured::new().map(Self::Tiles),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            || dot::Detected::new().map(Self::DotProducts),
        ];
        all.into_iter().filter_map(|new| new())
    }

    /// Whether a direct convolution in bf16 is faster than Winograd's in f32, which takes a quarter of the products.
    pub(in super::super) fn outrun_winograd(&self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
            Self::Tiles(_) => true,
            _ => false,
        }
    }

    /// The products of two times equally many tiles of the left operand with two times as many of the right one:
    /// `sums` are overwritten by the four sums of products, row by row, the first of the left one's with both before
    /// the second's.
    ///
    /// # Panics
    /// If the operands are not equally long.
    pub(super) fn multiply(&self, a: [&[f32]; 2], b: [&[f32]; 2], sums: &mut [f32; 4 * TILE]) {
        let len = a[0].len();
        assert!(len.is_multiple_of(TILE) && [a[1], b[0], b[1]].iter().all(|x| x.len() == len));
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
            Self::Tiles(tiles) => tiles.multiply(a, b, sums),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::DotProducts(detected) => detected.multiply(a, b, sums),
            Self::None => multiply(a, b, sums),
        }
    }
}

/// By the definition.
pub(super) fn multiply(a: [&[f32]; 2], b: [&[f32]; 2], sums: &mut [f32; 4 * TILE]) {
    let halves = |word: f32| {
        let word = word.to_bits();
        [word << 16, word & 0xffff_0000].map(f32::from_bits)
    };
    for (at, sums) in sums.chunks_exact_mut(TILE).enumerate() {
        sums.fill(0.0);
        let (a, b) = (a[at / 2], b[at % 2]);
        for (a, b) in a.chunks_exact(TILE).zip(b.chunks_exact(TILE)) {
            for (sums, a) in sums.chunks_exact_mut(LINES).zip(a.chunks_exact(LINES)) {
                for (&a, b) in a.iter().zip(b.chunks_exact(LINES)) {
                    let a = halves(a);
                    for (sum, &b) in sums.iter_mut().zip(b) {
                        let b = halves(b);
                        *sum += a[0] * b[0] + a[1] * b[1];
                    }
                }
            }
        }
    }
}

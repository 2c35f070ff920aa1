//! AMX: eight tiles of 16 rows of 64 bytes, and products of two of them.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{LINES, TILE};

/// Linux's request for the state of a processor's extension, and the number of that of AMX's tiles.
const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
const XTILEDATA: libc::c_long = 18;
/// AMX-BF16 and AMX-TILE among the features of leaf 7, in EDX.
const FEATURES: u32 = 1 << 22 | 1 << 24;

/// Whether this processor multiplies tiles of bf16, and the system lets it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(ask)
}

#[expect(unsafe_code, reason = "the processor and the system are asked")]
fn ask() -> bool {
    #[allow(unused_unsafe, reason = "safe in newer versions of Rust")]
    // SAFETY: every processor of 64 bits has the instruction, which gives zeros for a leaf that it has not.
    let found = unsafe { __cpuid_count(7, 0) }.edx;
    // SAFETY: the call takes two numbers, and refuses what it does not know.
    found & FEATURES == FEATURES
        && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) } == 0
}

/// The configuration: eight tiles of 16 rows of 64 bytes.
#[repr(align(64))]
struct Configuration([u8; 64]);

const CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    bytes[0] = 1; // the only palette there is
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64; // bytes of a row, 16 bits each
        bytes[48 + tile] = LINES as u8;
        tile += 1;
    }
    Configuration(bytes)
};

/// That the tiles of this thread are configured, until it is dropped.
pub(in super::super) struct Configured(PhantomData<*const ()>);

impl Configured {
    /// If there are tiles.
    pub(super) fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        // SAFETY: the processor has the instruction, which reads 64 bytes.
        #[expect(unsafe_code, reason = "an instruction without a function in Rust")]
        unsafe {
            asm!("ldtilecfg [{0}]", in(reg) CONFIGURATION.0.as_ptr(), options(nostack, preserves_flags));
        }
        Some(Self(PhantomData))
    }

    /// As [`Instructions::multiply`](super::Instructions::multiply), which looked at the lengths.
    pub(super) fn multiply(&self, a: [&[f32]; 2], b: [&[f32]; 2], sums: &mut [f32; 4 * TILE]) {
        if a[0].is_empty() {
            return sums.fill(0.0);
        }
        // SAFETY: the tiles are configured. Each turn reads a tile of 1,024 bytes of each of four slices, all of
        // which have `turns` of them, and in the end four tiles are written, which `sums` has room for.
        #[expect(unsafe_code, reason = "instructions without functions in Rust")]
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a0} + {row}*1]",
                "tileloadd tmm6, [{b0} + {row}*1]",
                "tileloadd tmm7, [{b1} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {row}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {turns}",
                "jnz 2b",
                "tilestored [{sums} + {row}*1], tmm0",
                "tilestored [{sums} + {row}*1 + 1024], tmm1",
                "tilestored [{sums} + {row}*1 + 2048], tmm2",
                "tilestored [{sums} + {row}*1 + 3072], tmm3",
                a0 = inout(reg) a[0].as_ptr() => _,
                a1 = inout(reg) a[1].as_ptr() => _,
                b0 = inout(reg) b[0].as_ptr() => _,
                b1 = inout(reg) b[1].as_ptr() => _,
                turns = inout(reg) a[0].len() / TILE => _,
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) 64usize,
                options(nostack),
            );
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the processor has the instruction; nothing is left in the tiles that anyone reads.
        #[expect(unsafe_code, reason = "an instruction without a function in Rust")]
        unsafe {
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }
}

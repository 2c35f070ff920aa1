//! The instructions: a block of the output, summed in the unit's registers.

use super::BLOCK;

/// Bytes from a column of tiles to the next in a row of the right operand: 16 columns of two bf16.
const NEXT_COLUMNS: usize = 64;

/// A block of a product, at most [`BLOCK`] × [`BLOCK`]: where its operands and its sums lie.
///
/// Each step takes 32 terms: 16 or 32 rows of 32 numbers of the left operand, and 16 rows of 16 or 32 columns of pairs
/// of numbers of the right one.
#[repr(C)]
pub(super) struct Block {
    /// Rows of f32, and the bytes from one to the next.
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    /// Whether the sums are added to what is there; a machine word, for the instructions.
    pub(super) add: usize,
    /// For each step the pieces one after the other, of each two tiles of 16 rows of 64 bytes.
    pub(super) left: *const u8,
    pub(super) right: *const u8,
    /// Bytes from `right` to what each step takes.
    pub(super) offsets: *const usize,
    pub(super) steps: usize,
    /// Bytes from a row of the right operand to the next, and from a piece to the next.
    pub(super) right_stride: usize,
    pub(super) right_piece: usize,
}

/// How many tiles a block has each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) tall: bool,
    pub(super) wide: bool,
}

impl Shape {
    /// For so many rows and columns, from 1 to [`BLOCK`].
    pub(super) fn of(rows: usize, columns: usize) -> Self {
        Self {
            tall: rows > BLOCK / 2,
            wide: columns > BLOCK / 2,
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
pub(super) use self::x86::{request, run, with_tiles};

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    use super::{Block, NEXT_COLUMNS, Shape};

    /// Asks the system for the use of the unit, by this process with all its threads. Whether it is there and granted.
    pub(in super::super) fn request() -> bool {
        const REQUEST_PERMISSION: libc::c_long = 0x1023; // ARCH_REQ_XCOMP_PERM
        const TILE_DATA: libc::c_long = 18; // XFEATURE_XTILEDATA
        let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        // Leaf 7 is there where AVX-512 is.
        let features = __cpuid_count(7, 0).edx;
        let (bf16, tile) = (features >> 22 & 1, features >> 24 & 1);
        // SAFETY: the call changes what the kernel saves for this process, and nothing else.
        #[expect(unsafe_code, reason = "a system call without a wrapper")]
        let granted =
            || unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 };
        vectors && bf16 == 1 && tile == 1 && granted()
    }

    /// All eight registers of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    static CONFIGURATION: Configuration = {
        let mut bytes = [0; 64];
        bytes[0] = 1; // the only palette there is
        let mut i = 0;
        while i < 8 {
            bytes[16 + 2 * i] = 64;
            bytes[48 + i] = 16;
            i += 1;
        }
        Configuration(bytes)
    };

    /// Calls `f` with the registers set up, on this thread. Calls may be nested no deeper.
    ///
    /// # Safety
    /// [`request`] returned true.
    #[expect(unsafe_code, reason = "instructions that not every processor has")]
    pub(in super::super) unsafe fn with_tiles<R>(f: impl FnOnce() -> R) -> R {
        // SAFETY: the processor has the instructions, and the configuration is of 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION.0, options(nostack, readonly));
        }
        let result = f();
        // SAFETY: as above. Released so that the system has no 8 KiB to save when it switches threads.
        unsafe {
            asm!("tilerelease", options(nostack, nomem));
        }
        result
    }

    /// Sums are in registers 0 to 3, two tiles of the left operand in 4 and 5, and two of the right one in 6 and 7.
    macro_rules! each_sum {
        (tall, wide, $one:ident) => {
            concat!(
                $one!(0, "rdx", 0),
                $one!(1, "rdx", 64),
                $one!(2, "rcx", 0),
                $one!(3, "rcx", 64)
            )
        };
        (tall, narrow, $one:ident) => {
            concat!($one!(0, "rdx", 0), $one!(2, "rcx", 0))
        };
        (short, wide, $one:ident) => {
            concat!($one!(0, "rdx", 0), $one!(1, "rdx", 64))
        };
        (short, narrow, $one:ident) => {
            $one!(0, "rdx", 0)
        };
    }
    macro_rules! load {
        ($i:literal, $rows:literal, $at:literal) => {
            concat!("tileloadd tmm", $i, ", [", $rows, " + r9*1 + ", $at, "]\n")
        };
    }
    macro_rules! zero {
        ($i:literal, $rows:literal, $at:literal) => {
            concat!("tilezero tmm", $i, "\n")
        };
    }
    macro_rules! store {
        ($i:literal, $rows:literal, $at:literal) => {
            concat!("tilestored [", $rows, " + r9*1 + ", $at, "], tmm", $i, "\n")
        };
    }
    macro_rules! multiply {
        (tall, wide) => {
            "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\n\
             tdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7\n"
        };
        (tall, narrow) => {
            "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm2, tmm5, tmm6\n"
        };
        (short, wide) => {
            "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\n"
        };
        (short, narrow) => {
            "tdpbf16ps tmm0, tmm4, tmm6\n"
        };
    }
    /// A piece of the left operand.
    macro_rules! left {
        (tall, $at:literal) => {
            concat!(
                left!(short, $at),
                "tileloadd tmm5, [rax + r11*1 + ",
                $at,
                " + 1024]\n"
            )
        };
        (short, $at:literal) => {
            concat!("tileloadd tmm4, [rax + r11*1 + ", $at, "]\n")
        };
    }
    /// A piece of the right operand.
    macro_rules! right {
        (wide, $at:literal) => {
            concat!(
                right!(narrow, $at),
                "tileloadd tmm7, [",
                $at,
                " + r9*1 + 64]\n"
            )
        };
        (narrow, $at:literal) => {
            concat!("tileloadd tmm6, [", $at, " + r9*1]\n")
        };
    }
    /// One step, in an order in which each load serves two products or more: a₃b₁, a₂b₁, a₂b₂, a₁b₂, a₁b₃, a₁b₁.
    macro_rules! step {
        ($tall:ident, $wide:ident) => {
            concat!(
                left!($tall, 4096),
                right!($wide, "rdx"),
                multiply!($tall, $wide),
                left!($tall, 2048),
                multiply!($tall, $wide),
                "lea r12, [rdx + r10]\n",
                right!($wide, "r12"),
                multiply!($tall, $wide),
                left!($tall, 0),
                multiply!($tall, $wide),
                "add r12, r10\n",
                right!($wide, "r12"),
                multiply!($tall, $wide),
                right!($wide, "rdx"),
                multiply!($tall, $wide),
                "add rax, 6144\n",
            )
        };
    }
    /// Where the sums lie: their first and their seventeenth row, and the distance of two.
    macro_rules! sums_at {
        () => {
            "mov rdx, [rdi]\nmov r9, [rdi + 8]\nmov rcx, r9\nshl rcx, 4\nadd rcx, rdx\n"
        };
    }
    macro_rules! block {
        ($block:expr, $tall:ident, $wide:ident) => {
            asm!(
                sums_at!(),
                "cmp qword ptr [rdi + 16], 0",
                "je 3f",
                each_sum!($tall, $wide, load),
                "jmp 4f",
                "3:",
                each_sum!($tall, $wide, zero),
                "4:",
                "mov rax, [rdi + 24]",
                "mov rsi, [rdi + 32]",
                "mov r8, [rdi + 40]",
                "mov rcx, [rdi + 48]",
                "mov r9, [rdi + 56]",
                "mov r10, [rdi + 64]",
                "mov r11d, 64",
                "5:",
                "mov rdx, [r8]",
                "add rdx, rsi",
                step!($tall, $wide),
                "add r8, 8",
                "dec rcx",
                "jnz 5b",
                sums_at!(),
                each_sum!($tall, $wide, store),
                in("rdi") $block,
                out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _,
                options(nostack),
            )
        };
    }

    /// Computes a block.
    ///
    /// # Safety
    /// Called inside [`with_tiles`]. There is a step, and all that the block names may be read, and `c` written.
    #[expect(unsafe_code, reason = "instructions that not every processor has")]
    pub(in super::super) unsafe fn run(block: &Block, shape: Shape) {
        const _: () = assert!(NEXT_COLUMNS == 64);
        // SAFETY: the caller answers for the memory. The compiler uses none of the unit's registers itself.
        unsafe {
            match (shape.tall, shape.wide) {
                (true, true) => block!(block, tall, wide),
                (true, false) => block!(block, tall, narrow),
                (false, true) => block!(block, short, wide),
                (false, false) => block!(block, short, narrow),
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
pub(super) use self::none::{request, run, with_tiles};

/// Where there is no such unit.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
mod none {
    use super::{Block, Shape};

    pub(in super::super) fn request() -> bool {
        false
    }

    #[expect(unsafe_code, reason = "as the other of this name")]
    pub(in super::super) unsafe fn with_tiles<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    #[expect(unsafe_code, reason = "as the other of this name")]
    pub(in super::super) unsafe fn run(_: &Block, _: Shape) {
        unreachable!("`request` returns false");
    }
}

//! Bits in bytes, the most significant of each byte first.

use super::Divisor;

/// Bits into bytes, the most significant first.
pub(super) struct BitWriter {
    pub(super) bytes: Vec<u8>,
    /// The last `filled` bits of this, fewer than 8 between calls, are not in `bytes` yet.
    pub(super) pending: u64,
    pub(super) filled: u32,
}

impl BitWriter {
    /// Appends the low `count` bits of `value`, at most 33.
    pub(super) fn put(&mut self, value: u64, count: u32) {
        self.pending = (self.pending << count) | value;
        self.filled += count;
        while self.filled >= 8 {
            self.filled -= 8;
            self.bytes.push((self.pending >> self.filled) as u8);
        }
    }

    /// Fills the last byte with ones.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            let missing = 8 - self.filled;
            self.put((1 << missing) - 1, missing);
        }
        self.bytes
    }
}

/// Bits of bytes, the most significant first, with ones behind the end.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: u64,
    pub(super) end: u64,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len() as u64 * 8,
        }
    }

    /// The next bits from the top down; of them, the first 57 at least are of the bytes or behind their end.
    fn peek(&self) -> u64 {
        let start = usize::try_from(self.at / 8)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let rest = &self.bytes[start..];
        let word = match rest.first_chunk() {
            Some(chunk) => u64::from_be_bytes(*chunk),
            None => {
                let mut chunk = [0xff; 8];
                chunk[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(chunk)
            }
        };
        !(!word << (self.at % 8))
    }

    /// The length of a run of ones, behind whose zero the reader then stands; nothing if the bits end before it.
    pub(super) fn ones(&mut self) -> Option<u64> {
        let start = self.at;
        while self.at < self.end {
            let run = u64::from(self.peek().leading_ones().min(57));
            self.at += run;
            if run < 57 {
                let length = self.at - start;
                self.at += 1;
                // Behind the end are ones only, so the zero was before it.
                return Some(length);
            }
        }
        None
    }

    /// A remainder of `divisor`; nothing if the bits end before it does.
    pub(super) fn remainder(&mut self, divisor: Divisor) -> Option<u64> {
        let word = self.peek();
        let (short, width) = (u64::from(divisor.short), divisor.width); // width is at most 31
        let head = (word >> 1) >> (63 - width);
        let (remainder, length) = if head < short {
            (head, width)
        } else {
            ((word >> (63 - width)) - short, width + 1)
        };
        self.at += u64::from(length);
        (self.at <= self.end).then_some(remainder)
    }
}

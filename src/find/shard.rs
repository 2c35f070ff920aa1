//! The steps of Algorithm 1 in parts, for several machines.
//!
//! With the published ρ no update reaches a weight, so that every step is taken at the model's own weights and any
//! machine can take it. The steps are summed in at most `BLOCKS` blocks; a part is some of the blocks in a row, each
//! by itself, so that whoever adds all of them up in their order gets the bits of a run that was never split.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use candle_core::Tensor;

use crate::index::Site;
use crate::{Error, Result};

/// The most blocks, and so the most parts.
pub(super) const BLOCKS: usize = 32;

/// One of the parts that the steps are split into: `2/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// Part `number` of `of`, from 1.
    ///
    /// # Errors
    /// If there is no such part, or there are more than `BLOCKS`.
    pub(crate) fn new(number: usize, of: usize) -> Result<Self> {
        match (1..=of).contains(&number) && of <= BLOCKS {
            true => Ok(Self { number, of }),
            false => Err(refused(format!("{number}/{of}"))),
        }
    }

    /// Which, from 1.
    pub fn number(self) -> usize {
        self.number
    }

    /// How many there are: at most 32.
    pub(crate) fn of(self) -> usize {
        self.of
    }

    /// All parts of as many, this among them.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (1..=self.of).map(move |number| Self { number, ..self })
    }

    /// Its steps, of so many; none if there are more parts than blocks.
    pub(crate) fn steps(self, steps: usize) -> Range<usize> {
        let (size, blocks) = (steps_of_block(steps), blocks(steps, self));
        (blocks.start * size).min(steps)..(blocks.end * size).min(steps)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(number, of)| {
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            (digits(number) && digits(of))
                .then(|| Some((number.parse().ok()?, of.parse().ok()?)))?
        });
        let (number, of) = numbers.ok_or_else(|| refused(format!("`{text}`")))?;
        Self::new(number, of)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.of)
    }
}

fn refused(found: String) -> Error {
    let expected = format!("i/n, such as 2/8, from 1/n to n/n with n at most {BLOCKS}");
    Error::value("shard", expected, found)
}

/// How many steps of so many are in a block; the last may have fewer.
pub(super) fn steps_of_block(steps: usize) -> usize {
    steps.div_ceil(BLOCKS).max(1)
}

/// The blocks of a part of so many steps.
pub(super) fn blocks(steps: usize, shard: Shard) -> Range<usize> {
    let all = steps.div_ceil(steps_of_block(steps));
    (shard.number - 1) * all / shard.of..shard.number * all / shard.of
}

/// The steps of each of these blocks.
pub(super) fn steps_of_blocks(steps: usize, shard: Shard) -> impl ExactSizeIterator<Item = usize> {
    let size = steps_of_block(steps);
    blocks(steps, shard).map(move |block| size.min(steps - block * size))
}

/// Whether any of the weights is another now.
pub(super) fn changes(
    before: &BTreeMap<Site, Tensor>,
    now: &BTreeMap<Site, Tensor>,
) -> Result<bool> {
    for (site, weight) in before {
        // Unmoved, it is the same tensor or equal in every place.
        let most = (&now[site] - weight)?.abs()?.max_all()?;
        if most.to_scalar::<f32>()? != 0.0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// That an update of a step, counted from 0, makes those after it depend on it.
pub(super) fn reaches(rho: f64, step: usize) -> Error {
    let expected = "a step size whose updates reach no weight, so that steps can be taken apart, as 0 always is";
    let found = format!("{rho:e}, which changes a weight in step {}", step + 1);
    Error::value("rho", expected, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts are every step once, in order, in whole blocks, whatever their number.
    #[test]
    fn parts_are_all_steps_once() {
        for steps in [1, 2, 3, 31, 32, 33, 63, 100, 500, 1000, 1001] {
            let size = steps_of_block(steps);
            assert!(steps.div_ceil(size) <= BLOCKS, "{steps}");
            for of in 1..=BLOCKS {
                let shards: Vec<Shard> = Shard::new(1, of).unwrap().all().collect();
                assert_eq!(shards.len(), of);
                let mut at = 0;
                for shard in shards {
                    let part = shard.steps(steps);
                    assert_eq!(part.start, at, "{steps} {shard}");
                    assert!(part.start % size == 0 || part.is_empty(), "{steps} {shard}");
                    assert_eq!(steps_of_blocks(steps, shard).sum::<usize>(), part.len());
                    at = part.end;
                }
                assert_eq!(at, steps, "{of}");
            }
        }
    }

    #[test]
    fn shards_are_read_and_shown() {
        for text in ["1/1", "1/8", "8/8", "32/32"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in [
            "", "1", "0/8", "9/8", "1/33", "-1/2", "+1/2", "1/2/3", "a/b", "/", "1/0", " 1/2",
        ] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert!("99999999999999999999999/1".parse::<Shard>().is_err());
    }
}

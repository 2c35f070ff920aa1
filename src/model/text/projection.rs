//! The embedding of a whole text: what a text encoder says of the text's end, through a projection.

use candle_core::Tensor;

use super::super::loader::Weights;
use crate::config::ConfigReader;
use crate::nn::Linear;
use crate::{Error, Result};

/// Which token's embedding stands for the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum EndToken {
    /// The first of the highest id: configurations of before July 2023 name token 2, and mean this.
    Highest,
    /// The first of this id.
    Id(u32),
}

impl EndToken {
    /// Takes it out of a text encoder's configuration.
    pub(in crate::model) fn take(keys: &mut ConfigReader) -> Result<Self> {
        Ok(match keys.or("eos_token_id", 49407)? {
            2 => Self::Highest,
            id => Self::Id(id),
        })
    }

    /// Where the text ends.
    fn position(self, ids: &[u32]) -> Result<usize> {
        let wanted = match self {
            Self::Highest => ids.iter().copied().max().unwrap_or(0),
            Self::Id(id) => id,
        };
        ids.iter().position(|&id| id == wanted).ok_or_else(|| {
            Error::value(
                "end of the text",
                format!("token {wanted}, the encoder's eos_token_id"),
                "no such token: the tokenizer is of another model",
            )
        })
    }
}

/// The projection of a text's end.
#[derive(Debug)]
pub(in crate::model) struct TextProjection {
    end: EndToken,
    linear: Linear,
}

impl TextProjection {
    /// Takes the weight `text_projection`, `[to, from]`.
    pub(in crate::model) fn load(
        weights: &mut Weights,
        end: EndToken,
        from: usize,
        to: usize,
    ) -> Result<Self> {
        Ok(Self {
            end,
            linear: weights.linear_no_bias("text_projection", from, to)?,
        })
    }

    /// Width of an embedding.
    pub(in crate::model) fn width(&self) -> usize {
        self.linear.weight().shape().0
    }

    /// One embedding `[b, to]` for each text, from its last hidden states `[b, t, from]`, which went through the final
    /// norm.
    ///
    /// # Errors
    /// If a text has no end.
    pub(in crate::model) fn forward(&self, states: &Tensor, ids: &[Vec<u32>]) -> Result<Tensor> {
        let ends = ids
            .iter()
            .enumerate()
            .map(|(row, ids)| Ok(states.get(row)?.get(self.end.position(ids)?)?))
            .collect::<Result<Vec<_>>>()?;
        self.linear.forward(&Tensor::stack(&ends, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::EndToken;

    #[test]
    fn both_rules_of_the_end_take_the_first() {
        assert_eq!(EndToken::Highest.position(&[7, 3, 9, 9]).unwrap(), 2);
        assert_eq!(EndToken::Id(3).position(&[7, 3, 9, 3]).unwrap(), 1);
        assert!(EndToken::Id(4).position(&[7, 3]).is_err());
    }
}

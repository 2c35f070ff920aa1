//! The names of the weight matrices that may hold neurons.
//!
//! A [`Site`] is one of diffusers' names for the `to_k` or `to_v` weight of an attention layer of the UNet:
//!
//! ```text
//! down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight
//! mid_block.attentions.0.transformer_blocks.0.attn1.to_v.weight
//! ```
//!
//! Numbers are decimal, without sign or leading zeros, so that a site has exactly one name and comparing names compares
//! sites.

use std::fmt;
use std::str::FromStr;

use crate::shown::shown;
use crate::{Error, IndexError, Result};

/// A part of the UNet that has attention layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Block {
    Down(u16),
    Mid,
    Up(u16),
}

/// Which of the two projections of an attention layer a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// `to_k`
    Key,
    /// `to_v`
    Value,
}

/// One weight matrix that may hold neurons, by its name.
///
/// Sites are ordered by the bytes of their names (so `down_blocks.10` comes before `down_blocks.2`): the order in which
/// the fingerprint of a model and the SHA-256 of an index take them, and that any language's plain string sort gives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    // The name comes first, and decides every comparison: the other fields follow from it.
    name: Box<str>,
    block: Block,
    attention: u16,
    transformer_block: u16,
    cross: bool,
    projection: Projection,
}

impl Site {
    /// The diffusers name.
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether keys and values come from the text (`attn2`), not from the picture itself (`attn1`).
    pub(crate) fn is_cross(&self) -> bool {
        self.cross
    }

    /// Key or value.
    pub(crate) fn projection(&self) -> Projection {
        self.projection
    }

    /// The part of the UNet, as tables show it: `down_blocks.0`, `mid_block`, `up_blocks.3`.
    pub(crate) fn block(&self) -> String {
        match self.block {
            Block::Down(number) => format!("down_blocks.{number}"),
            Block::Mid => "mid_block".to_owned(),
            Block::Up(number) => format!("up_blocks.{number}"),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.name)
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Site({})", self.name)
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = || IndexError::SiteName { found: shown(name) };
        parse(name).ok_or_else(|| found().into())
    }
}

/// The site of that name, if the name is one.
fn parse(name: &str) -> Option<Site> {
    let mut parts = name.split('.');
    let block = match parts.next()? {
        "down_blocks" => Block::Down(number(parts.next()?)?),
        "mid_block" => Block::Mid,
        "up_blocks" => Block::Up(number(parts.next()?)?),
        _ => return None,
    };
    let attention = (parts.next()? == "attentions")
        .then(|| parts.next())?
        .and_then(number)?;
    let transformer_block = (parts.next()? == "transformer_blocks")
        .then(|| parts.next())?
        .and_then(number)?;
    let cross = match parts.next()? {
        "attn1" => false,
        "attn2" => true,
        _ => return None,
    };
    let projection = match parts.next()? {
        "to_k" => Projection::Key,
        "to_v" => Projection::Value,
        _ => return None,
    };
    let complete = parts.next() == Some("weight") && parts.next().is_none();
    complete.then(|| Site {
        name: name.into(),
        block,
        attention,
        transformer_block,
        cross,
        projection,
    })
}

/// A number in its one canonical form: `str::parse` alone would take `+1` and `01` too.
fn number(digits: &str) -> Option<u16> {
    digits
        .parse()
        .ok()
        .filter(|number: &u16| number.to_string() == digits)
}

/// The sites that `--sites` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SiteSelection {
    /// Keys and values from the text.
    #[default]
    Cross,
    /// Values from the text: what a token gives, not how much it is looked at.
    CrossValues,
    /// Keys and values from the picture.
    SelfAttention,
    /// Both.
    All,
}

impl SiteSelection {
    /// Whether the selection has this site.
    pub(crate) fn contains(self, site: &Site) -> bool {
        match self {
            Self::Cross => site.is_cross(),
            Self::CrossValues => site.is_cross() && site.projection() == Projection::Value,
            Self::SelfAttention => !site.is_cross(),
            Self::All => true,
        }
    }

    /// Whether all selected sites see text.
    pub fn is_cross(self) -> bool {
        matches!(self, Self::Cross | Self::CrossValues)
    }
}

impl fmt::Display for SiteSelection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Cross => "cross",
            Self::CrossValues => "cross:v",
            Self::SelfAttention => "self",
            Self::All => "all",
        })
    }
}

impl FromStr for SiteSelection {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "cross" => Ok(Self::Cross),
            "cross:v" => Ok(Self::CrossValues),
            "self" => Ok(Self::SelfAttention),
            "all" => Ok(Self::All),
            _ => Err(Error::value(
                "sites",
                "`cross`, `cross:v`, `self` or `all`",
                shown(word),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_into_their_parts() {
        let name = "up_blocks.3.attentions.2.transformer_blocks.1.attn2.to_v.weight";
        let site: Site = name.parse().unwrap();
        assert_eq!(site.to_string(), name);
        assert_eq!(site.block(), "up_blocks.3");
        assert_eq!((site.attention, site.transformer_block), (2, 1));
        assert!(site.is_cross());
        assert_eq!(site.projection(), Projection::Value);

        let site: Site = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight"
            .parse()
            .unwrap();
        assert_eq!(site.block(), "mid_block");
        assert!(!site.is_cross());
        assert_eq!(site.projection(), Projection::Key);
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "conv_in.weight",
            "mid_block.0.attentions.0.transformer_blocks.0.attn1.to_k.weight",
            "down_blocks.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn3.to_k.weight",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.bias",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight.values",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
            "down_blocks.00.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            "down_blocks.+1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            "down_blocks.65536.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            "down_blocks.0.resnets.0.transformer_blocks.0.attn2.to_k.weight",
        ] {
            assert!(name.parse::<Site>().is_err(), "{name}");
        }
    }

    #[test]
    fn order_is_that_of_the_names() {
        let site = |block: &str| -> Site {
            format!("{block}.attentions.0.transformer_blocks.0.attn2.to_k.weight")
                .parse()
                .unwrap()
        };
        let sorted = [
            site("down_blocks.1"),
            site("down_blocks.10"),
            site("down_blocks.2"),
            site("mid_block"),
        ];
        assert!(sorted.is_sorted());
        assert!(sorted.map(|site| site.to_string()).is_sorted());
    }

    #[test]
    fn selections() {
        let cross: Site = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
            .parse()
            .unwrap();
        let own: Site = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight"
            .parse()
            .unwrap();
        for (word, wants) in [
            ("cross", (true, false)),
            ("cross:v", (false, false)),
            ("self", (false, true)),
            ("all", (true, true)),
        ] {
            let selection: SiteSelection = word.parse().unwrap();
            assert_eq!(
                (selection.contains(&cross), selection.contains(&own)),
                wants
            );
            assert_eq!(selection.to_string(), word);
        }
        let error = "both".parse::<SiteSelection>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "sites: expected `cross`, `cross:v`, `self` or `all`, found `both`"
        );
    }
}

//! Which layers a concept is used in: `--layers`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::concept::NeuronIndex;
use super::site::{Projection, Site};
use crate::shown::shown;
use crate::{Error, IndexError, Result};

/// A choice of sites by name: patterns `GLOB`, `GLOB:k` or `GLOB:v`, separated by commas.
///
/// A glob is held against a site's diffusers name and against every beginning of it that ends before a dot, so that
/// `up_blocks.1` is that block, `mid_block.attentions.0` that attention and `*.attn1` every self-attention; `*` stands
/// for any run of characters, dots included. `:k` and `:v` leave only the keys or the values. A site is chosen if any
/// of the patterns chooses it.
///
/// ```
/// use cones::index::LayerSelection;
///
/// let layers: LayerSelection = "up_blocks.*:v, mid_block".parse().unwrap();
/// assert_eq!(layers.to_string(), "up_blocks.*:v,mid_block");
/// assert!("mid_block:q".parse::<LayerSelection>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSelection {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    glob: String,
    projection: Option<Projection>,
}

impl Pattern {
    fn contains(&self, site: &Site) -> bool {
        let name = site.as_str();
        let ends = name.match_indices('.').map(|(at, _)| at);
        self.projection.is_none_or(|p| p == site.projection())
            && ends
                .chain([name.len()])
                .any(|end| matches(self.glob.as_bytes(), &name.as_bytes()[..end]))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.glob)?;
        formatter.write_str(self.projection.map_or("", suffix))
    }
}

fn suffix(projection: Projection) -> &'static str {
    match projection {
        Projection::Key => ":k",
        Projection::Value => ":v",
    }
}

impl LayerSelection {
    /// Whether the selection has this site.
    pub(crate) fn contains(&self, site: &Site) -> bool {
        self.patterns.iter().any(|pattern| pattern.contains(site))
    }

    /// The concepts with the neurons of the selected sites only: every other site is left out.
    ///
    /// # Errors
    /// [`Error::Index`] naming the first pattern that chooses no site of any concept, and what sites there are.
    pub(crate) fn restrict(&self, concepts: &[&NeuronIndex]) -> Result<Vec<NeuronIndex>> {
        let sites = || concepts.iter().flat_map(|concept| concept.sites());
        for pattern in &self.patterns {
            if !sites().any(|(site, _)| pattern.contains(site)) {
                let there = layer_names(sites().map(|(site, _)| site));
                let unknown = IndexError::NoSuchLayer {
                    pattern: pattern.to_string(),
                    there: format!("there are {there}"),
                };
                return Err(unknown.into());
            }
        }
        concepts
            .iter()
            .map(|concept| {
                let sites = concept.sites().filter(|(site, _)| self.contains(site));
                let sites = sites.map(|(site, neurons)| (site.clone(), neurons.clone()));
                NeuronIndex::new(concept.provenance().clone(), sites)
            })
            .collect()
    }
}

/// The layers of these sites as patterns, each once.
fn layer_names<'a>(sites: impl Iterator<Item = &'a Site>) -> String {
    let names: BTreeSet<String> = sites
        .map(|site| {
            let layer = site.as_str().rsplitn(3, '.').last().unwrap_or_default();
            format!("{layer}{}", suffix(site.projection()))
        })
        .collect();
    match names.len() {
        0 => "none at all".to_owned(),
        _ => names.into_iter().collect::<Vec<_>>().join(", "),
    }
}

impl fmt::Display for LayerSelection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<String> = self.patterns.iter().map(Pattern::to_string).collect();
        formatter.pad(&patterns.join(","))
    }
}

impl FromStr for LayerSelection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for pattern in text.split(',') {
            let parsed = parse(pattern.trim()).ok_or_else(|| malformed(pattern))?;
            if patterns.contains(&parsed) {
                let found = format!("`{parsed}` twice");
                return Err(Error::value("layers", "each pattern once", found));
            }
            patterns.push(parsed);
        }
        Ok(Self { patterns })
    }
}

fn malformed(pattern: &str) -> Error {
    Error::value(
        "layers",
        "patterns such as `up_blocks.*`, `mid_block:k` or `*.attentions.0:v`, separated by commas",
        format!("`{}`", shown(pattern)),
    )
}

fn parse(pattern: &str) -> Option<Pattern> {
    let (glob, projection) = match pattern.split_once(':') {
        None => (pattern, None),
        Some((glob, "k")) => (glob, Some(Projection::Key)),
        Some((glob, "v")) => (glob, Some(Projection::Value)),
        Some(_) => return None,
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || "._*".contains(c);
    (!glob.is_empty() && glob.chars().all(letter)).then(|| Pattern {
        glob: glob.to_owned(),
        projection,
    })
}

/// Whether a glob matches a whole name. Only the last star is ever tried again, so that the time is at most the product
/// of the two lengths.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // behind the last star, and where its run ends
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g + 1, n));
                g += 1;
            }
            Some(c) if *c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                Some((behind, end)) => {
                    star = Some((behind, end + 1));
                    (g, n) = (behind, end + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::super::concept::tests::concept;
    use super::*;

    fn site(layer: &str, projection: &str) -> Site {
        let (block, attention) = layer.split_once('/').unwrap();
        format!("{block}.attentions.0.transformer_blocks.0.{attention}.{projection}.weight")
            .parse()
            .unwrap()
    }

    #[test]
    fn globs() {
        for (glob, name, want) in [
            ("mid_block", "mid_block", true),
            ("mid", "mid_block", false),
            ("*", "", true),
            ("**", "anything", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("*b*b", "abab", true),
            ("*b*b", "aab", false),
            ("a*bc*d", "abbcbcxd", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(glob.as_bytes(), name.as_bytes()),
                want,
                "{glob} {name}"
            );
        }
    }

    #[test]
    fn patterns_choose_blocks_layers_and_projections() {
        let (up1, up10) = (
            site("up_blocks.1/attn2", "to_v"),
            site("up_blocks.10/attn2", "to_v"),
        );
        let (key, own) = (
            site("up_blocks.1/attn2", "to_k"),
            site("mid_block/attn1", "to_v"),
        );
        for (pattern, want) in [
            ("up_blocks.1", [true, false, true, false]),
            ("up_blocks.*", [true, true, true, false]),
            ("up_blocks.*:v", [true, true, false, false]),
            ("*:k", [false, false, true, false]),
            ("*.attn1", [false, false, false, true]),
            ("up_blocks.10,mid_block:v", [false, true, false, true]),
            ("up_blocks.1.attentions.0", [true, false, true, false]),
            (key.as_str(), [false, false, true, false]),
        ] {
            let layers: LayerSelection = pattern.parse().unwrap();
            let got = [&up1, &up10, &key, &own].map(|site| layers.contains(site));
            assert_eq!(got, want, "{pattern}");
            assert_eq!(layers.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "mid_block,",
            "mid_block:q",
            ":k",
            "mid block",
            "a:k:v",
            "ü",
            "mid_block,mid_block",
            "*:v, mid_block ,*:v",
        ] {
            let error = text.parse::<LayerSelection>().unwrap_err();
            assert!(error.to_string().contains("layers"), "{text}: {error}");
        }
        assert_eq!(
            " mid_block , up_blocks.1:k "
                .parse::<LayerSelection>()
                .unwrap()
                .to_string(),
            "mid_block,up_blocks.1:k"
        );
    }

    #[test]
    fn a_concept_is_restricted_to_what_is_chosen() {
        let sites = [
            (site("mid_block/attn2", "to_k"), [4, 5], &[0, 1][..]),
            (site("mid_block/attn2", "to_v"), [4, 5], &[2][..]),
            (site("up_blocks.1/attn2", "to_v"), [4, 5], &[3, 4, 5][..]),
        ];
        let (all, cat) = (concept("dog", &sites), concept("cat", &sites[2..]));
        let only = |pattern: &str| {
            let layers: LayerSelection = pattern.parse().unwrap();
            layers.restrict(&[&all, &cat])
        };
        assert_eq!(only("*").unwrap(), [all.clone(), cat.clone()]);
        assert_eq!(
            only("*:v").unwrap(),
            [concept("dog", &sites[1..]), cat.clone()]
        );
        assert_eq!(
            only("mid_block").unwrap(),
            [concept("dog", &sites[..2]), concept("cat", &[])]
        );

        let error = only("*,up_blocks.1:k").unwrap_err();
        assert!(error.to_string().contains("`up_blocks.1:k`"), "{error}");
        let hint = error.hint().unwrap();
        for name in [
            "mid_block.attentions.0.transformer_blocks.0.attn2:k",
            "attn2:v",
        ] {
            assert!(hint.contains(name), "{hint}");
        }
    }
}

//! What files of weights are called: plain, of a variant, or in shards, under the names that diffusers (`_add_variant`,
//! `variant_compatible_siblings`) and transformers have given them.

/// What a file of weights is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// All of them.
    Whole,
    /// The list of which file has which.
    Index,
    /// Some of them: its number, and how many such files there are.
    Shard(u32, u32),
}

/// The variant, empty for the plain one, and the part of a file, from what follows its stem in its name; `None` if it
/// is none of weights.
pub(super) fn parse(rest: &str) -> Option<(&str, Part)> {
    if let Some(rest) = rest.strip_suffix(".json") {
        // `.safetensors.index.fp16.json`, and of some versions `.safetensors.fp16.index.json`.
        let (before, after) = rest.split_once(".safetensors")?;
        let behind = match after.strip_prefix(".index") {
            Some(behind) => behind,
            None => after.strip_suffix(".index")?,
        };
        return Some((variant(either(behind, before))?, Part::Index));
    }
    let rest = rest.strip_suffix(".safetensors")?;
    match rest
        .find('-')
        .and_then(|at| Some((at, shard(&rest[at..])?)))
    {
        // `.fp16-00001-of-00002`, and of older versions `-00001-of-00002.fp16`.
        Some((at, (part, behind))) => Some((variant(either(behind, &rest[..at]))?, part)),
        None => Some((variant(rest)?, Part::Whole)),
    }
}

/// The first text, or the second where it is empty.
fn either<'a>(text: &'a str, other: &'a str) -> &'a str {
    match text.is_empty() {
        true => other,
        false => text,
    }
}

/// The name in `.name`, or the plain variant's, which is empty.
fn variant(text: &str) -> Option<&str> {
    match text.strip_prefix('.') {
        None if text.is_empty() => Some(""),
        Some(name) if !name.is_empty() && !name.contains("safetensors") => Some(name),
        _ => None,
    }
}

/// The shard of a text that begins like `-00001-of-00002`, and what follows.
fn shard(text: &str) -> Option<(Part, &str)> {
    let (numbers, behind) = text.split_at_checked("-00001-of-00002".len())?;
    let (number, of) = numbers.strip_prefix('-')?.split_once("-of-")?;
    let parse = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    Some((Part::Shard(parse(number)?, parse(of)?), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_versions() {
        #[rustfmt::skip]
        let rows = [
            (".safetensors", Some(("", Part::Whole))),
            (".fp16.safetensors", Some(("fp16", Part::Whole))),
            (".non_ema.safetensors", Some(("non_ema", Part::Whole))),
            (".fp16.non-ema.safetensors", Some(("fp16.non-ema", Part::Whole))),
            (".safetensors.index.json", Some(("", Part::Index))),
            (".safetensors.index.fp16.json", Some(("fp16", Part::Index))),
            (".safetensors.fp16.index.json", Some(("fp16", Part::Index))),
            (".fp16.safetensors.index.json", Some(("fp16", Part::Index))),
            ("-00001-of-00002.safetensors", Some(("", Part::Shard(1, 2)))),
            (".fp16-00001-of-00002.safetensors", Some(("fp16", Part::Shard(1, 2)))),
            ("-00002-of-00002.fp16.safetensors", Some(("fp16", Part::Shard(2, 2)))),
            (".bin", None),
            ("2.safetensors", None),
            (".onnx", None),
            (".safetensors.index", None),
            ("-0001-of-00002.safetensors", None),
            ("-+0001-of-00002.safetensors", None),
            ("-00001-of-0000é.safetensors", None),
        ];
        for (end, want) in rows {
            assert_eq!(parse(end), want, "{end}");
        }
    }
}

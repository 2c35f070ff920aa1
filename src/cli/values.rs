//! The values of options: each parser says what it expected.

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use cones::Size;
use cones::sampling::{Prediction, Sampler};

use super::DeviceName;

/// More threads than this would compute nothing faster on any machine.
pub(crate) const MAX_THREADS: usize = 1024;

/// The seed of this run where it was to be drawn at random.
static DRAWN_SEED: OnceLock<u64> = OnceLock::new();

/// The seed that was drawn for `--seed -1`.
pub(crate) fn drawn_seed() -> Option<u64> {
    DRAWN_SEED.get().copied()
}

/// A seed, or `-1` for one drawn at random: of 32 bits, as torch's generator takes, and the same for the whole run.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    match text.trim() {
        "-1" => Ok(*DRAWN_SEED.get_or_init(|| RandomState::new().hash_one(()) >> 32)),
        text => number(
            text,
            &format!(
                "a whole number from 0 to {}, or -1 for a random one",
                u64::MAX
            ),
            |_| true,
        ),
    }
}

/// The files of a list with commas between them, in which a name with commas that exists is taken whole: the longest
/// first.
pub(super) fn files(list: &OsStr) -> Vec<PathBuf> {
    let Some(text) = list.to_str() else {
        return vec![list.into()];
    };
    let parts: Vec<&str> = text.split(',').collect();
    let (mut files, mut at) = (Vec::new(), 0);
    while at < parts.len() {
        let names = (at + 1..=parts.len()).rev().flat_map(|end| {
            let whole = parts[at..end].join(",");
            [whole.clone(), whole.trim().to_owned()].map(|name| (name, end))
        });
        let found = names
            .into_iter()
            .find(|(name, _)| !name.is_empty() && Path::new(name).exists());
        let (name, end) = found.unwrap_or_else(|| (parts[at].trim().to_owned(), at + 1));
        files.push(name.into());
        at = end;
    }
    files
}

/// That the name of a file ends as it must.
pub(super) fn ending(option: &str, path: &Path, ending: &str) -> Result<(), String> {
    match path
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(ending))
    {
        true => Ok(()),
        false => Err(format!(
            "{option}: expected a name that ends in .{ending}, found `{}`",
            path.display()
        )),
    }
}

/// `NAME=PATH` in its parts, or a path without a name; what exists is taken whole.
pub(super) fn named(path: &Path) -> (Option<&str>, &Path) {
    match path.to_str().and_then(|text| text.split_once('=')) {
        Some((name, rest)) if !path.exists() && !name.trim().is_empty() && !rest.is_empty() => {
            (Some(name.trim()), Path::new(rest))
        }
        _ => (None, path),
    }
}

/// That a picture's name ends as one that can be written.
pub(super) fn picture(option: &str, path: &Path) -> Result<(), String> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is = |known: &&str| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(known));
    match cones::picture::ENDINGS.iter().any(is) {
        true => Ok(()),
        false => Err(format!(
            "{option}: expected a name that ends in .png, .jpg or .webp, found `{}`",
            path.display()
        )),
    }
}

/// How much larger pixels are written.
pub(super) fn zoom(text: &str) -> Result<u32, String> {
    in_range(text, 1, 64).map(|n| n as u32)
}

/// The samplers, for help.
pub(super) fn samplers() -> String {
    let names: Vec<String> = Sampler::ALL
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    match &names[..] {
        [names @ .., last] => format!("{} or {last}", names.join(", ")),
        [] => String::new(),
    }
}

/// Words for a prompt.
pub(super) fn words(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.is_empty() || text.chars().any(char::is_control) {
        true => Err("expected a word".to_owned()),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    in_range(text, 1, 1_000_000)
}

pub(super) fn picture_count(text: &str) -> Result<usize, String> {
    in_range(text, 1, 10_000)
}

pub(super) fn best_of(text: &str) -> Result<usize, String> {
    in_range(text, 2, 64)
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    in_range(text, 1, MAX_THREADS)
}

pub(super) fn batch(text: &str) -> Result<usize, String> {
    in_range(text, 1, 1024)
}

pub(super) fn up_to_a_hundred(text: &str) -> Result<usize, String> {
    in_range(text, 0, 100)
}

pub(super) fn up_to_a_million(text: &str) -> Result<usize, String> {
    in_range(text, 0, 1_000_000)
}

pub(super) fn finite_f64(text: &str) -> Result<f64, String> {
    number(text, "a number", |v: &f64| v.is_finite())
}

pub(super) fn finite(text: &str) -> Result<f32, String> {
    number(text, "a number", |v: &f32| v.is_finite())
}

pub(super) fn non_negative(text: &str) -> Result<f64, String> {
    let fits = |v: &f64| v.is_finite() && *v >= 0.0;
    number(text, "a number, zero or more", fits)
}

/// `0.6`
pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 to 1", |v: &f64| {
        (0.0..=1.0).contains(v)
    })
}

fn in_range(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let expected = format!("a whole number from {least} to {most}");
    number(text, &expected, |n| (least..=most).contains(n))
}

fn number<T: FromStr>(text: &str, expected: &str, fits: impl Fn(&T) -> bool) -> Result<T, String> {
    let parsed = text.parse().ok().filter(fits);
    parsed.ok_or_else(|| format!("expected {expected}"))
}

/// What a model predicts, by ModelSpec's names or diffusers'.
pub(super) fn prediction(text: &str) -> Result<Prediction, String> {
    match text {
        "epsilon" | "eps" => Ok(Prediction::Epsilon),
        "v" | "v_prediction" | "v-prediction" => Ok(Prediction::Velocity),
        _ => Err("expected epsilon or v".to_owned()),
    }
}

/// `cpu`, `cuda`, `cuda:1` or `metal`, if this build has it.
pub(super) fn device(text: &str) -> Result<DeviceName, String> {
    let number = match text.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()),
        None => None,
    };
    let without = |feature: &str| {
        format!(
            "this build has only the CPU; build with `cargo build --release --features {feature}`"
        )
    };
    match (text, number) {
        ("cpu", _) => Ok(DeviceName::Cpu),
        ("metal", _) if cfg!(feature = "metal") => Ok(DeviceName::Metal),
        ("metal", _) => Err(without("metal")),
        (_, Some(number)) if cfg!(feature = "cuda") => Ok(DeviceName::Cuda(number)),
        (_, Some(_)) => Err(without("cuda")),
        _ => Err("expected cpu, cuda, cuda:N or metal".to_owned()),
    }
}

/// `6GB` (10⁹ each), `6GiB` or `6G` (2³⁰ each), `500M`, or bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("GiB", 1_073_741_824.0),
        ("MiB", 1_048_576.0),
        ("KiB", 1024.0),
        ("GB", 1e9),
        ("MB", 1e6),
        ("KB", 1e3),
        ("G", 1_073_741_824.0),
        ("M", 1_048_576.0),
        ("K", 1024.0),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS
        .iter()
        .find(|(name, _)| upper.ends_with(&name.to_ascii_uppercase()));
    let (number, factor) = match unit {
        Some((name, factor)) => (upper[..upper.len() - name.len()].trim_end(), *factor),
        None => (upper.as_str(), 1.0),
    };
    match number.parse::<f64>() {
        Ok(n) if n.is_finite() && n > 0.0 => Ok((n * factor) as u64),
        _ => Err("expected an amount of memory, such as 6GB, 6GiB or 500MB".to_owned()),
    }
}

/// `0.03` or `3%`.
pub(super) fn density(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => finite_f64(percent.trim()).map(|p| p / 100.0),
        None => finite_f64(text),
    };
    match share {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and up to 1, such as 0.03 or 3%".to_owned()),
    }
}

/// `512` or `512x768`.
pub(super) fn size(text: &str) -> Result<Size, String> {
    let side = |side: &str| side.parse::<u32>().ok().filter(|&s| s > 0);
    let parsed = match text.split_once(['x', 'X']) {
        Some((width, height)) => side(width).zip(side(height)),
        None => side(text).map(|s| (s, s)),
    };
    let (width, height) = parsed.ok_or("expected pixels, such as 512 or 512x768")?;
    Ok(Size {
        width: width as usize,
        height: height as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_files_and_in_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["my dog, v2.idx", "a,b,c", "a", "b", " x"] {
            std::fs::write(at(name), b"").unwrap();
        }
        for (list, want) in [
            ("{a}", &["a"][..]),
            ("{a},{b}", &["a", "b"]),
            ("{a} , {b}", &["a", "b"]),
            ("{my dog, v2.idx}", &["my dog, v2.idx"]),
            ("{my dog, v2.idx},{b}", &["my dog, v2.idx", "b"]),
            ("{b}, {my dog, v2.idx} ,{a}", &["b", "my dog, v2.idx", "a"]),
            ("{a,b,c}", &["a,b,c"]),
            ("{a,b,c},{a,b,c}", &["a,b,c", "a,b,c"]),
            ("{ x}", &[" x"]),
            ("{no},{b}", &["no", "b"]),
        ] {
            let list = list.replace('{', &at("")).replace('}', "");
            let want: Vec<PathBuf> = want.iter().map(|name| at(name).into()).collect();
            assert_eq!(files(OsStr::new(&list)), want, "{list}");
        }
        assert_eq!(files(OsStr::new("a,,b")).len(), 3);
        assert_eq!(files(OsStr::new("")), [PathBuf::new()]);
    }

    #[test]
    fn a_path_may_have_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("a=b");
        std::fs::write(&there, b"").unwrap();
        assert_eq!(named(&there), (None, there.as_path()));
        for (text, name, path) in [
            ("dog=photos", Some("dog"), "photos"),
            ("sks dog=a=b", Some("sks dog"), "a=b"),
            ("photos", None, "photos"),
            ("=photos", None, "=photos"),
            ("dog=", None, "dog="),
        ] {
            assert_eq!(named(Path::new(text)), (name, Path::new(path)), "{text}");
        }
    }

    #[test]
    fn a_seed_is_a_number_or_drawn() {
        assert_eq!(seed("7"), Ok(7));
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        assert_eq!((seed("-1"), drawn_seed()), (seed("-1"), seed("-1").ok()));
        for wrong in ["-2", "", "one", "1.0", "18446744073709551616"] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(density("3%"), Ok(0.03));
        assert_eq!(density("0.5"), Ok(0.5));
        assert!(density("0").is_err() && density("101%").is_err() && density("NaN").is_err());
        let (width, height) = (512, 768);
        assert_eq!(size("512x768"), Ok(Size { width, height }));
        let (width, height) = (64, 64);
        assert_eq!(size("64"), Ok(Size { width, height }));
        assert!(size("0x64").is_err() && size("64x").is_err() && size("-1").is_err());
        assert!(
            at_least_one("0").is_err() && non_negative("-1").is_err() && finite("inf").is_err()
        );
    }
}

//! The values of options: each parser says what it expected.

use std::str::FromStr;

use super::DeviceName;

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

pub(super) fn threads(text: &str) -> Result<usize, String> {
    in_range(text, 1, 1024)
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

fn in_range(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let expected = format!("a whole number from {least} to {most}");
    number(text, &expected, |n| (least..=most).contains(n))
}

fn number<T: FromStr>(text: &str, expected: &str, fits: impl Fn(&T) -> bool) -> Result<T, String> {
    let parsed = text.parse().ok().filter(fits);
    parsed.ok_or_else(|| format!("expected {expected}"))
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
pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |side: &str| side.parse::<u32>().ok().filter(|&s| s > 0);
    let parsed = match text.split_once(['x', 'X']) {
        Some((width, height)) => side(width).zip(side(height)),
        None => side(text).map(|s| (s, s)),
    };
    parsed.ok_or_else(|| "expected pixels, such as 512 or 512x768".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(density("3%"), Ok(0.03));
        assert_eq!(density("0.5"), Ok(0.5));
        assert!(density("0").is_err() && density("101%").is_err() && density("NaN").is_err());
        assert_eq!(size("512x768"), Ok((512, 768)));
        assert_eq!(size("64"), Ok((64, 64)));
        assert!(size("0x64").is_err() && size("64x").is_err() && size("-1").is_err());
        assert!(
            at_least_one("0").is_err() && non_negative("-1").is_err() && finite("inf").is_err()
        );
    }
}

//! What the user sees: progress, messages, tables, JSON.

pub(crate) mod download;
pub(crate) mod escape;
pub(crate) mod hints;
pub(crate) mod memory;
pub(crate) mod meters;
pub(crate) mod photos;
pub(crate) mod ui;

/// `0.12 s`, `3 min`, `7.6 h`
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.0} ms", 1000.0 * s),
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_their_own_units() {
        for (seconds, said) in [
            (0.0312, "31 ms"),
            (0.5, "0.50 s"),
            (61.0, "61 s"),
            (300.0, "5 min"),
            (27_360.0, "7.6 h"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }
}

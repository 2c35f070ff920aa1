//! A dose measured, and the pictures to show of it.

use super::metric::Values;
use super::plan::Dose;
use super::study::Condition;
use crate::Picture;

/// A dose measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What was shut.
    pub dose: Dose,
    /// With its neurons shut.
    pub shut: Condition,
    /// With random neurons shut, as many in every site; see [`random_control`](crate::index::random_control).
    pub controls: Vec<Condition>,
    /// The mean over all controls.
    pub control: Values,
    /// Shut less plain.
    pub against_plain: Values,
    /// Shut less control.
    pub against_control: Values,
    /// Shut less the dose before, where there is one.
    pub against_previous: Option<Values>,
}

/// The pictures of a sheet, row by row, each with its name: photos; plain; of each dose the concept; of a lone dose its
/// random controls too; of each the first `columns`.
pub fn rows(
    photos: &[Picture],
    plain: &Condition,
    doses: &[Measured],
    columns: usize,
) -> Vec<(String, Vec<Picture>)> {
    let row = |name: &str, pictures: &[Picture]| {
        let first = pictures.iter().take(columns).cloned();
        (name.to_owned(), first.collect())
    };
    let mut rows = vec![row("photos", photos), row("plain", &plain.pictures)];
    for Measured { dose, shut, .. } in doses {
        let name = match dose.asked {
            None => "concept".to_owned(),
            Some(_) => format!("{:.2} %", 100.0 * dose.index.extent().density),
        };
        rows.push(row(&name, &shut.pictures));
    }
    if let [Measured { dose, controls, .. }] = doses
        && dose.asked.is_none()
    {
        rows.extend(controls.iter().map(|c| row("random", &c.pictures)));
    }
    rows
}

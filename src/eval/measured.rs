//! A dose measured.

use super::metric::Values;
use super::plan::Dose;
use super::study::Condition;

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

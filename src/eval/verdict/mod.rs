//! What the figures of a concept come to: whether it does what it claims.

use std::cmp::Ordering;
use std::fmt;

use super::measured::Measured;
use super::metric::{Metric, Values, beyond};
use super::statistics::Summary;
use crate::Result;

/// The bootstrap interval of fewer values is too narrow to be trusted.
const LEAST_PICTURES: usize = 16;
/// The share that has to be left of class and scene: of a plain picture's margin, and of the class no more than of that
/// which the photos themselves have.
const KEPT: f64 = 0.5;

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// The figures leave it open.
    CannotTell,
}

/// One of the things that have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is of.
    pub of: &'static str,
    /// Whether it holds.
    pub answer: Answer,
    /// What was found, in words.
    pub finding: String,
}

/// Whether a concept brings out its subject and leaves the rest of a picture alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of the measuring itself, in the order of their weight: where one is open, all is.
    pub measuring: Vec<Check>,
    /// Of the concept.
    pub concept: Vec<Check>,
    /// Yes where all holds; where the measuring can tell, no where something does not.
    pub answer: Answer,
}

/// Values of conditions, to ask of one metric of each.
struct Figures<'a> {
    photos: &'a Values,
    plain: &'a Values,
    dose: &'a Measured,
    seed: u64,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::CannotTell => "cannot tell",
        })
    }
}

impl Verdict {
    /// The verdict on a dose, from its figures, those of the plain model and those of the photos; the bootstrap draws
    /// from a generator of this seed.
    ///
    /// - likeness: CLIP-I lies above that of plain pictures and of random neurons, the whole interval of the
    ///   difference;
    /// - class and scenes survive: their margins keep more than half of those of plain pictures, beyond the interval;
    ///   of the class half of the photos' if that is less, for a subject may look little like its class;
    /// - the measuring can tell: there are 16 pictures, and the encoder sees the class in photos and plain pictures,
    ///   and the photos more like each other than plain pictures are like them.
    ///
    /// # Errors
    /// As [`summaries`](super::summaries).
    pub(super) fn of(
        photos: &Values,
        plain: &Values,
        dose: &Measured,
        noun: &str,
        seed: u64,
    ) -> Result<Self> {
        let figures = Figures {
            photos,
            plain,
            dose,
            seed,
        };
        let measuring = [
            figures.pictures()?,
            figures.likeness_of_photos()?,
            figures.class_of_photos(noun)?,
        ];
        let seen = format!("the {noun}");
        let concept = [
            figures.likeness("likeness", &dose.against_plain, "plain")?,
            figures.likeness("chance", &dose.against_control, "with random neurons shut")?,
            figures.kept("class", Metric::ClassMargin, &seen)?,
            figures.kept("scene", Metric::SceneMargin, "the scene")?,
        ];
        let measuring: Vec<Check> = measuring.into_iter().flatten().collect();
        let concept: Vec<Check> = concept.into_iter().flatten().collect();
        Ok(Self {
            answer: answer(&measuring, &concept),
            measuring,
            concept,
        })
    }
}

fn answer(measuring: &[Check], concept: &[Check]) -> Answer {
    let any = |checks: &[Check], answer| checks.iter().any(|check| check.answer == answer);
    match () {
        () if any(measuring, Answer::CannotTell) => Answer::CannotTell,
        () if any(concept, Answer::No) => Answer::No,
        () if any(concept, Answer::CannotTell) => Answer::CannotTell,
        () => Answer::Yes,
    }
}

/// One sentence, with what the answer rests on.
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = self.answer;
        let all = self.measuring.iter().chain(&self.concept);
        let findings: Vec<&str> = match answer {
            Answer::Yes => self.concept.iter().map(|c| c.finding.as_str()).collect(),
            _ => all
                .filter(|check| check.answer == answer)
                .map(|check| check.finding.as_str())
                .collect(),
        };
        write!(formatter, "{answer}: {}", findings.join("; "))
    }
}

fn check(of: &'static str, answer: Answer, finding: String) -> Option<Check> {
    Some(Check {
        of,
        answer,
        finding,
    })
}

impl Figures<'_> {
    fn summary(&self, values: &Values, metric: Metric) -> Result<Option<Summary>> {
        let values = values.get(&metric).map_or(&[][..], Vec::as_slice);
        Summary::of(values, self.seed)
    }

    fn pictures(&self) -> Result<Option<Check>> {
        let Some(plain) = self.summary(self.plain, Metric::ClipI)? else {
            return Ok(None);
        };
        let (answer, finding) = match plain.n {
            n if n < LEAST_PICTURES => (
                Answer::CannotTell,
                format!(
                    "with {} under each condition no interval can be trusted: {LEAST_PICTURES} at least",
                    if n == 1 {
                        "1 picture".to_owned()
                    } else {
                        format!("{n} pictures")
                    }
                ),
            ),
            n => (
                Answer::Yes,
                format!("{n} pictures under each condition are enough"),
            ),
        };
        Ok(check("pictures", answer, finding))
    }

    /// Whether the encoder can tell the subject from its class.
    fn likeness_of_photos(&self) -> Result<Option<Check>> {
        let photos = self.summary(self.photos, Metric::ClipI)?;
        let plain = self.summary(self.plain, Metric::ClipI)?;
        let Some((photos, plain)) = photos.zip(plain) else {
            return Ok(None);
        };
        let [low, high] = plain.interval;
        let figures = format!("{:.3} against {low:.3} to {high:.3}", photos.mean);
        let (answer, finding) = match photos.mean > high {
            true => (
                Answer::Yes,
                format!(
                    "the encoder finds the photos more like each other than plain pictures are like them ({figures})"
                ),
            ),
            false => (
                Answer::CannotTell,
                format!(
                    "the encoder cannot tell the subject from its class: it finds the photos no more like each other \
                     than plain pictures are like them ({figures})"
                ),
            ),
        };
        Ok(check("encoder", answer, finding))
    }

    /// Whether the encoder sees the class in the photos, and in plain pictures.
    fn class_of_photos(&self, noun: &str) -> Result<Option<Check>> {
        let photos = self.summary(self.photos, Metric::ClassMargin)?;
        let plain = self.summary(self.plain, Metric::ClassMargin)?;
        let Some((photos, plain)) = photos.zip(plain) else {
            return Ok(None);
        };
        let (answer, finding) = match (photos.mean > 0.0, plain.sign()) {
            (true, Ordering::Greater) => (
                Answer::Yes,
                format!("the encoder sees the {noun} in the photos and in plain pictures"),
            ),
            (false, _) => (
                Answer::CannotTell,
                format!("the encoder sees no {noun} in the photos, but rather other things"),
            ),
            (true, _) => (
                Answer::CannotTell,
                format!(
                    "the encoder sees no {noun} in plain pictures: the model or the encoder does not know it"
                ),
            ),
        };
        Ok(check("class seen", answer, finding))
    }

    fn likeness(&self, of: &'static str, against: &Values, other: &str) -> Result<Option<Check>> {
        let Some(difference) = self.summary(against, Metric::ClipI)? else {
            return Ok(None);
        };
        let (answer, finding) = match difference.sign() {
            Ordering::Greater => (Answer::Yes, format!("nearer to the photos than {other}")),
            Ordering::Less => (Answer::No, format!("further from the photos than {other}")),
            Ordering::Equal => (
                Answer::No,
                format!("as near to the photos as {other}, within the interval"),
            ),
        };
        Ok(check(of, answer, finding))
    }

    /// The share of a plain picture's margin that can be asked for: no more than the photos have, where they have one.
    fn possible(&self, metric: Metric) -> Result<f64> {
        let photos = self.summary(self.photos, metric)?;
        let plain = self.summary(self.plain, metric)?;
        Ok(match (photos, plain, metric) {
            (Some(photos), Some(plain), Metric::ClassMargin) if plain.mean > 0.0 => {
                (photos.mean / plain.mean).clamp(0.0, 1.0)
            }
            _ => 1.0,
        })
    }

    /// Whether more than half of a margin of plain pictures is left, or of what is possible.
    fn kept(&self, of: &'static str, metric: Metric, what: &str) -> Result<Option<Check>> {
        let (shut, plain) = (&self.dose.shut.values, self.plain);
        let share = KEPT * self.possible(metric)?;
        let left = self.summary(&beyond(shut, plain, share), metric)?;
        let figures = (self.summary(shut, metric)?, self.summary(plain, metric)?);
        let (Some(left), (Some(shut), Some(plain))) = (left, figures) else {
            return Ok(None);
        };
        if plain.interval == [0.0; 2] {
            return Ok(None); // nothing was asked for that could be lost
        }
        let share = format!("{:.0} %", 100.0 * shut.mean / plain.mean);
        let (answer, finding) = match (plain.sign(), left.sign()) {
            (Ordering::Less | Ordering::Equal, _) => (
                Answer::CannotTell,
                format!(
                    "the encoder does not see {what} in plain pictures, and so not whether it survives"
                ),
            ),
            (Ordering::Greater, Ordering::Greater) => (
                Answer::Yes,
                format!("{what} survives ({share} of how clearly plain pictures show it)"),
            ),
            (Ordering::Greater, Ordering::Less) => (
                Answer::No,
                format!("{what} is lost ({share} of how clearly plain pictures show it)"),
            ),
            (Ordering::Greater, Ordering::Equal) => (
                Answer::CannotTell,
                format!(
                    "whether {what} survives is within the interval ({share} of how clearly plain pictures show it)"
                ),
            ),
        };
        Ok(check(of, answer, finding))
    }
}

#[cfg(test)]
mod tests;

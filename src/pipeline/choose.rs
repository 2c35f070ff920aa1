//! The choice among seeds, by how their pictures begin.

use super::Pipeline;
use super::attention::AttentionOptions;
use super::options::{Progress, SampleOptions};
use crate::prompt::PromptSpec;
use crate::{HeatMap, Result};

/// The share of the passes after which a picture shows what will stand where.
const BEGINNING: f64 = 0.25;
/// Pixels of a side of the maps that are compared: about as many as the smallest attention maps have.
const SIDE: usize = 16;

impl Pipeline {
    /// Of every `of` seeds the one whose picture most promises to show all these words of the prompt, each in a place
    /// of its own.
    ///
    /// Every seed is drawn for a quarter of the passes, and the attention to the words until then compared: words that
    /// no place attends to strongly, or that share their places, are not drawn, or drawn as one thing. The choice
    /// changes nothing in what a seed draws.
    ///
    /// # Errors
    /// As [`Pipeline::draw`]; or if the prompt has not one of the words.
    pub fn choose_seeds(
        &self,
        prompt: &PromptSpec,
        options: &SampleOptions,
        words: &[String],
        (seeds, of): (&[u64], usize),
        mut progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let attention = AttentionOptions {
            heat: words.to_vec(),
            ..AttentionOptions::default()
        };
        let run = self.denoise_run(prompt.clone(), options, &attention)?;
        let mut promises: Vec<(u64, f64)> = Vec::with_capacity(seeds.len());
        for batch in seeds.chunks(Self::batch(run.size)) {
            let begun = promises.len();
            let heat = run.begin(batch, BEGINNING, |done, passes| {
                let (done, total) = (begun * passes + done * batch.len(), seeds.len() * passes);
                progress(Progress { done, total })
            })?;
            self.pages.unet.release();
            let promised = heat.iter().map(|maps| promise(maps));
            promises.extend(batch.iter().copied().zip(promised));
        }
        self.check_unchanged()?;
        // Of equal ones the first.
        let best = |group: &[(u64, f64)]| {
            let mut group = group.iter().rev();
            let first = *group.next()?;
            Some(
                group
                    .fold(first, |best, one| if one.1 >= best.1 { *one } else { best })
                    .0,
            )
        };
        Ok(promises.chunks(of.max(1)).filter_map(best).collect())
    }
}

/// How much a beginning promises, from the heat of each word: by how much the word that is worst off exceeds all
/// others where it does so most.
///
/// Of sums of margins, overlaps, distances and peaks this one chose best among seeds of two, three and four subjects on
/// the pocket model (`examples/pocket/METHODS.md`).
fn promise(heat: &[HeatMap]) -> f64 {
    let maps: Vec<Vec<f32>> = heat
        .iter()
        .map(|map| smoothed(&map.spread(SIDE, SIDE)))
        .collect();
    let margin = |word: usize| {
        let others = |pixel: usize| {
            let others = maps.iter().enumerate().filter(|(other, _)| *other != word);
            others.map(|(_, map)| map[pixel]).fold(0.0, f32::max)
        };
        let margins = (0..SIDE * SIDE).map(|pixel| maps[word][pixel] - others(pixel));
        margins.fold(f32::NEG_INFINITY, f32::max)
    };
    let least = (0..maps.len()).map(margin).fold(f32::INFINITY, f32::min);
    f64::from(least)
}

/// The mean of each pixel of a map `[SIDE, SIDE]` and its neighbours; what is beyond the border is as the border.
fn smoothed(map: &[f32]) -> Vec<f32> {
    let near = |at: usize| {
        let last = SIDE - 1;
        [at.saturating_sub(1), at, (at + 1).min(last)]
    };
    let mean = |pixel: usize| {
        let (y, x) = (pixel / SIDE, pixel % SIDE);
        let sum: f32 = near(y)
            .iter()
            .flat_map(|y| near(x).map(|x| map[y * SIDE + x]))
            .sum();
        sum / 9.0
    };
    (0..SIDE * SIDE).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    /// Heat of this strength around the place.
    fn spot(place: usize, strength: f32) -> HeatMap {
        let mut map = vec![0.01; SIDE * SIDE];
        for y in 0..3 {
            map[place + y * SIDE..][..3].fill(strength);
        }
        let mut heat = HeatMap::new();
        heat.add(Size::square(SIDE), &map).unwrap();
        heat
    }

    #[test]
    fn words_in_places_of_their_own_promise_most() {
        let (left, right, top) = (5 * SIDE + 1, 5 * SIDE + 11, SIDE + 6);
        let apart = promise(&[spot(left, 0.5), spot(right, 0.5)]);
        let weak = promise(&[spot(left, 0.5), spot(right, 0.2)]);
        let together = promise(&[spot(left, 0.5), spot(left, 0.4)]);
        assert!(apart > weak && weak > together, "{apart} {weak} {together}");
        assert!(together <= 0.0);
        // The worst off of several counts.
        let three = promise(&[spot(left, 0.5), spot(right, 0.5), spot(top, 0.1)]);
        assert!((three - 0.09).abs() < 1e-6, "{three}");
        // One alone has to be attended to.
        assert!(promise(&[spot(left, 0.5)]) > promise(&[spot(left, 0.4)]));
        // Smoothing keeps what is even, to the border.
        assert!(smoothed(&[0.25; SIDE * SIDE]).iter().all(|v| *v == 0.25));
    }
}

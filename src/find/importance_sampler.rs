//! Which picture of which kind a step of importance sampling looks at, and at which timestep.

use candle_core::Tensor;

use super::importance::{Draw, Importance};
use super::loss::{Batch, DreamBoothData, PromptedLatents};
use super::state::TrainerState;
use crate::Result;
use crate::index::Site;
use crate::sampling::{Generator, ScheduleConfig};

/// Draws samples of the subject and of the class, whichever is behind what the sizes of its gradients ask for.
pub(super) struct Sampler<'a> {
    /// Subject and class, with their weights in the loss.
    pub(super) kinds: [(&'a PromptedLatents, f64); 2],
    /// The numbers of their pictures.
    pictures: [Vec<Vec<f32>>; 2],
    importance: [Importance; 2],
    /// The step's.
    pub(super) generator: Generator,
    /// The sample whose gradient is being taken, and its kind.
    drawn: Option<(usize, Draw)>,
}

/// What a state calls the kinds.
const KINDS: [&str; 2] = ["importance.subject", "importance.class"];

impl<'a> Sampler<'a> {
    pub(super) fn new(
        schedule: &ScheduleConfig,
        data: &'a DreamBoothData,
        prior_loss_weight: f64,
        seed: u64,
    ) -> Result<Self> {
        let timesteps = schedule.num_train_timesteps();
        let mut generator = Generator::new(seed);
        let places = generator.randint(0, i64::from(u32::MAX), 2)?;
        let of = |place: i64| Importance::new(timesteps, place as f64 / f64::from(u32::MAX));
        let (subject, class) = (&data.instance, data.class()?);
        Ok(Self {
            kinds: [(subject, 1.0), (class, prior_loss_weight)],
            pictures: [subject.values()?, class.values()?],
            importance: [of(places[0]), of(places[1])],
            generator,
            drawn: None,
        })
    }

    /// The kind to look at next.
    fn kind(&self) -> usize {
        let [subject, class] = &self.importance;
        let need = match (subject.mean(), class.mean()) {
            (Some(subject), Some(class)) => [subject, class],
            _ => [1.0, 1.0],
        };
        let behind = |kind: usize| need[kind] / (self.importance[kind].count() as f64 + 0.5);
        usize::from(behind(1) > behind(0))
    }

    /// The next sample.
    pub(super) fn batch(&mut self, schedule: &ScheduleConfig) -> Result<Batch> {
        let kind = self.kind();
        let (examples, weight) = self.kinds[kind];
        let (draw, number) = (self.importance[kind].draw(), self.importance[kind].count());
        self.drawn = Some((kind, draw));
        let (t, generator) = (draw.timestep, &mut self.generator);
        Batch::single(schedule, examples, weight, t, number, generator)?.expecting(
            schedule,
            &self.pictures[kind],
            number,
        )
    }

    /// Takes note of the scores θ∘g of that sample: its kind, and by how much to multiply them.
    ///
    /// The size of a sample is Σ|θ∘g|. The sum of squares would ask for timesteps at which few neurons have large
    /// scores; whether those are chosen was never in doubt, and noise matters among the many near the threshold.
    pub(super) fn observe(&mut self, scores: &[(Site, Tensor)]) -> Result<(usize, f64)> {
        let mut size = 0.0;
        for (_, scores) in scores {
            size += f64::from(scores.abs()?.sum_all()?.to_scalar::<f32>()?);
        }
        let times = self
            .drawn
            .take()
            .map(|(kind, draw)| (kind, self.importance[kind].observe(draw, size)));
        Ok(times.unwrap_or((0, 0.0))) // of no sample nothing is learned
    }

    pub(super) fn save(&self, state: &mut TrainerState) {
        for (name, importance) in KINDS.iter().zip(&self.importance) {
            importance.save(name, state);
        }
    }

    pub(super) fn load(&mut self, state: &TrainerState) -> Result<()> {
        let mut kinds = KINDS.iter().zip(&mut self.importance);
        kinds.try_for_each(|(name, importance)| importance.load(name, state))
    }
}

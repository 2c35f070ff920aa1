//! Parts of the work, to be timed from outside: `benches/` and `examples/bench` do.

use std::hint::black_box;

use candle_core::{Device, Tensor};

use crate::index::SiteSelection;
use crate::model::Conditioning;
use crate::nn::{
    Activation, AttentionGrad, Conv2d, GroupNorm, LayerNorm, Linear, attention, attention_backward,
    attention_keeping, by_candle,
};
use crate::prompt::{Marks, PromptSpec};
use crate::sampling::Generator;
use crate::{Pipeline, Result};

/// Is given the name of a part and what runs it once.
pub type Timer<'a> = dyn FnMut(&str, &dyn Fn() -> Result<()>) + 'a;

/// Widths and sides of the UNet's levels at 512 × 512, for a batch of two.
const LEVELS: [(usize, usize); 3] = [(320, 64), (640, 32), (1280, 16)];
const BATCH: usize = 2;
const HEADS: usize = 8;

/// The kernels at the sizes of Stable Diffusion 1.x, on the CPU, forward and backward, each beside the same by candle's
/// operations.
///
/// # Errors
/// None that the machine's memory allows.
pub fn kernels(time: &mut Timer) -> Result<()> {
    let time = &mut |name: &str, once: &dyn Fn() -> Result<()>| beside_candle(time, name, once);
    convolutions(time)?;
    norms(time)?;
    transformers(time)
}

/// Times `once`, and then with candle's operations in place of the kernels of this crate.
fn beside_candle(time: &mut Timer, name: &str, once: &dyn Fn() -> Result<()>) {
    time(name, once);
    time(&format!("{name}, by candle"), &|| by_candle(once));
}

fn random(shape: &[usize]) -> Result<Tensor> {
    let values = Generator::new(1).randn(shape.iter().product());
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Something that is computed and not looked at.
fn once<T>(f: impl Fn() -> Result<T>) -> impl Fn() -> Result<()> {
    move || f().map(|found| drop(black_box(found)))
}

fn convolutions(time: &mut Timer) -> Result<()> {
    for (c, side) in LEVELS {
        let x = random(&[BATCH, c, side, side])?;
        let layer = Conv2d::new(random(&[c, 9 * c])?, 3, random(&[c])?, 1, 1);
        let name = format!("conv3x3 {c}@{side}");
        time(&name, &once(|| layer.forward(&x)));
        time(&format!("{name} backward"), &once(|| layer.backward(&x)));
    }
    Ok(())
}

fn norms(time: &mut Timer) -> Result<()> {
    for (c, side) in LEVELS {
        let x = random(&[BATCH, c, side, side])?;
        let group = GroupNorm::new(random(&[c])?, random(&[c])?, 32, 1e-5, Activation::Silu);
        let name = format!("group norm + SiLU {c}@{side}");
        time(&name, &once(|| group.forward(&x)));
        time(
            &format!("{name} backward"),
            &once(|| group.backward(&x, &x)),
        );
        let x = random(&[BATCH, side * side, c])?;
        let layer = LayerNorm::new(random(&[c])?, random(&[c])?, 1e-5);
        let name = format!("layer norm {c}@{side}");
        time(&name, &once(|| layer.forward(&x)));
        time(
            &format!("{name} backward"),
            &once(|| layer.backward(&x, &x)),
        );
    }
    // The largest of the autoencoder's decoder.
    let x = random(&[1, 128, 512, 512])?;
    let group = GroupNorm::new(random(&[128])?, random(&[128])?, 32, 1e-6, Activation::Silu);
    time("group norm + SiLU 128@512", &once(|| group.forward(&x)));
    Ok(())
}

fn transformers(time: &mut Timer) -> Result<()> {
    for (c, side) in LEVELS {
        let x = random(&[BATCH, side * side, c])?;
        let linear = Linear::new(random(&[c, c])?, None);
        let name = format!("linear {c}@{side}");
        time(&name, &once(|| linear.forward(&x)));
        time(&format!("{name} backward"), &once(|| linear.backward(&x)));
        let gate = Linear::new(random(&[8 * c, c])?, Some(random(&[8 * c])?));
        let grad = random(&[BATCH, side * side, 4 * c])?;
        let name = format!("GEGLU {c}@{side}");
        time(&name, &once(|| gate.forward_geglu(&x)));
        time(
            &format!("{name} backward"),
            &once(|| gate.backward_geglu(&x, &grad)),
        );
        let name = format!("self-attention {c}@{side}");
        time(&name, &once(|| attention(&x, &x, &x, HEADS)));
        // As a find step has it where memory allows.
        let (_, kept) = attention_keeping(&x, &x, &x, HEADS)?;
        let backward = || {
            let (output, map) = (Some(&x), None);
            let grad = AttentionGrad { output, map };
            attention_backward(&x, &x, &x, HEADS, kept.as_ref(), grad)
        };
        time(&format!("{name} backward"), &once(backward));
    }
    Ok(())
}

/// A part of a model's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// A forward pass of the UNet, as drawing does it: with the keys and values of the prompts computed before.
    Forward,
    /// A step of `find`: forward, and backward to the weights of the cross-attentions' keys and values.
    Step,
    /// A step of `find` as it is by default: forward, and backward to the cross-attentions' K and V of a subject's own
    /// words.
    Words,
    /// The first of the latents to a picture.
    Decode,
}

/// Passes of a model's networks over latents of its own size, one for each prompt.
pub struct Passes<'a> {
    pipeline: &'a Pipeline,
    context: Conditioning,
    /// With its keys and values computed.
    projected: Conditioning,
    /// The first prompt in every row, its first word marked as a subject's own.
    marked: Conditioning,
    timesteps: Vec<f32>,
    /// The latents, `[b, c, h, w]`.
    pub latents: Tensor,
    /// The embeddings of the prompts, `[b, t, d]`.
    pub embeddings: Tensor,
}

impl<'a> Passes<'a> {
    /// Noise, at timestep 500, on the way to these prompts, of which there is at least one.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens.
    pub fn new(pipeline: &'a Pipeline, prompts: &[&str]) -> Result<Self> {
        let unet = pipeline.unet();
        let side = unet.sample_size();
        let shape = [prompts.len(), unet.channels(), side, side];
        let first = prompts.first().copied().unwrap_or_default();
        let word = first.split_whitespace().next().map(str::to_owned);
        let marks = Marks::new(word.into_iter().collect(), Vec::new());
        let marked: Vec<PromptSpec> = prompts.iter().map(|_| marks.prompt(first)).collect();
        let prompts: Vec<PromptSpec> = prompts.iter().map(|&prompt| prompt.into()).collect();
        let context = pipeline.embed(&prompts)?;
        Ok(Self {
            pipeline,
            marked: pipeline.embed(&marked)?,
            timesteps: vec![500.0; shape[0]],
            latents: random(&shape)?.to_device(pipeline.device())?,
            embeddings: context.embedding().clone(),
            projected: unet.precompute_kv(&context)?,
            context,
        })
    }

    /// One pass: what it gives, of the latents' shape, or a picture.
    ///
    /// # Errors
    /// None that a loaded model allows.
    pub fn run(&self, pass: Pass) -> Result<Tensor> {
        let unet = self.pipeline.unet();
        match pass {
            Pass::Forward => unet.forward(&self.latents, &self.timesteps, &self.projected),
            Pass::Step => {
                let (output, saved) =
                    unet.forward_saving(&self.latents, &self.timesteps, &self.context)?;
                drop(black_box(unet.backward(
                    saved,
                    &output,
                    SiteSelection::Cross,
                )?));
                Ok(output)
            }
            Pass::Words => {
                let (output, saved) =
                    unet.forward_saving(&self.latents, &self.timesteps, &self.marked)?;
                let sites = SiteSelection::Cross;
                drop(black_box(unet.backward_at_words(saved, &output, sites)?));
                Ok(output)
            }
            Pass::Decode => self.pipeline.vae().decode(&self.latents.narrow(0, 0, 1)?),
        }
    }

    /// Times the two passes of the UNet, each beside the same by candle's operations.
    pub fn time(&self, time: &mut Timer) {
        let (name, rows) = (&self.pipeline.name, self.timesteps.len());
        for (what, pass) in [("forward", Pass::Forward), ("find step", Pass::Step)] {
            let name = format!("{name} {what}, {rows} rows");
            beside_candle(time, &name, &once(|| self.run(pass)));
        }
    }
}

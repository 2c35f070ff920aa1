//! Whole runs against diffusers, and what a run refuses.

use super::super::golden::Golden;
use super::super::noise::Generator;
use super::*;

/// Seed and length of the runs in `make_sampling.py`.
const SEED: u64 = 11;
const VALUES: usize = 24;

/// Where Rust's and PyTorch's logarithms and exponentials round differently, up to 51 steps carry
/// it on: 8.6e-7 at most. Relative to the larger of 1 and the value, as latents are of order 1 and
/// the Euler samplers' begin at 15.
const TOLERANCE: f32 = 8e-6;

/// The stand-in for the UNet in `make_sampling.py`, in operations that round exactly.
pub(super) fn model(step: &Step, x: &[f32]) -> Vec<f32> {
    let value = |(i, x): (usize, &f32)| {
        let pattern = ((i * 7 % 11) as f32 - 5.0) / 10.0;
        (x * 0.7 + pattern * (step.timestep / 1000.0)) / (x * x * 0.05 + 1.0)
    };
    x.iter().enumerate().map(value).collect()
}

/// One run as `make_sampling.py` makes it: timesteps, and the first five model inputs before the
/// result.
fn run(config: &ScheduleConfig, sampler: Sampler, steps: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let generator = std::cell::RefCell::new(Generator::new(SEED));
    let latents = generator.borrow_mut().randn(VALUES);
    let (mut timesteps, mut rows) = (Vec::new(), Vec::new());
    let denoise = |step: &Step, x: &mut [f32]| {
        assert_eq!(step.index, timesteps.len());
        timesteps.push(step.timestep);
        if step.index < 5 {
            rows.extend_from_slice(x);
        }
        Ok::<_, Error>(model(step, x))
    };
    let result = sample(sampler, config, steps, latents, denoise, || {
        Ok(generator.borrow_mut().randn(VALUES))
    })?;
    rows.extend(result);
    Ok((timesteps, rows))
}

fn config(text: &str) -> ScheduleConfig {
    ScheduleConfig::parse("scheduler_config.json", text).unwrap()
}

/// What Stable Diffusion ships.
fn stable_diffusion() -> ScheduleConfig {
    config(&Golden::samplers().config("sd-epsilon"))
}

#[test]
fn runs_are_diffusers() {
    let golden = Golden::samplers();
    let (mut runs, mut worst) = (0, (0.0_f32, String::new()));
    for name in golden.names().filter_map(|name| name.strip_suffix(".run")) {
        let mut fields = name.split('.');
        let file = fields.next().unwrap();
        let sampler: Sampler = fields.next().unwrap().parse().unwrap();
        let steps = fields.next().unwrap().parse().unwrap();
        let config = config(&golden.config(file));
        let (timesteps, got) = run(&config, sampler, steps).unwrap();
        let want_timesteps = golden.f32(&format!("{name}.timesteps"));
        assert_eq!(timesteps.len(), want_timesteps.len(), "{name}: calls");
        for (got, want) in timesteps.iter().zip(&want_timesteps) {
            // Karras levels have fractional timesteps, interpolated between logarithms.
            assert!(
                (got - want).abs() <= 1e-4,
                "{name}: timesteps {timesteps:?}, diffusers has {want_timesteps:?}"
            );
        }
        let want = golden.f32(&format!("{name}.run"));
        assert_eq!(got.len(), want.len(), "{name}");
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            let error = (got - want).abs() / want.abs().max(1.0);
            assert!(
                error <= TOLERANCE,
                "{name}: row {}, {got} for {want}",
                index / VALUES
            );
            if error > worst.0 {
                worst = (error, name.to_owned());
            }
        }
        runs += 1;
    }
    eprintln!("{runs} runs, worst {} in {}", worst.0, worst.1);
    assert_eq!(runs, 5 * (2 * 5 + 4 * 2 + 11));
}

#[test]
fn plms_calls_once_more_and_repeats_its_second_timestep() {
    let (timesteps, _) = run(&stable_diffusion(), Sampler::Pndm, 5).unwrap();
    assert_eq!(timesteps, [801.0, 601.0, 601.0, 401.0, 201.0, 1.0]);
}

#[test]
fn names_of_other_programs_are_known() {
    for (sampler, names) in [
        (
            Sampler::DpmPp2M,
            "dpm++2m|DPM++ 2M|dpmsolver++|dpmpp_2m|k_dpmpp_2m|DPMSolverMultistepScheduler",
        ),
        (Sampler::Ddim, "ddim|DDIM|DDIMScheduler"),
        (Sampler::Euler, "euler|Euler|k_euler|EulerDiscreteScheduler"),
        (
            Sampler::EulerA,
            "euler-a|euler_a|Euler a|k_euler_a|euler_ancestral|EulerAncestralDiscreteScheduler",
        ),
        (Sampler::Pndm, "pndm|PLMS|plms|PNDMScheduler"),
        (
            Sampler::DpmPp2MSde,
            "dpm++2m-sde|DPM++ 2M SDE|dpmpp_2m_sde|k_dpmpp_2m_sde|sde-dpmsolver++",
        ),
        (
            Sampler::UniPc,
            "unipc|UniPC|uni_pc|uni_pc_bh2|UniPCMultistepScheduler",
        ),
        (Sampler::Heun, "heun|Heun|k_heun|HeunDiscreteScheduler"),
        (Sampler::Lcm, "lcm|LCM|LCMScheduler"),
    ] {
        for name in names.split('|') {
            assert_eq!(name.parse::<Sampler>().unwrap(), sampler, "{name}");
        }
        assert_eq!(sampler.label().parse::<Sampler>().unwrap(), sampler);
        assert_eq!(sampler.to_string().parse::<Sampler>().unwrap(), sampler);
    }
    let error = "magic".parse::<Sampler>().unwrap_err().to_string();
    let names: Vec<&str> = Sampler::ALL.iter().map(|sampler| sampler.name()).collect();
    let names = names.join(", ");
    assert_eq!(
        error,
        format!("sampler: expected one of {names}, found `magic`")
    );
}

#[test]
fn impossible_steps_are_errors() {
    let config = stable_diffusion();
    for &sampler in Sampler::ALL {
        for steps in [0, 1001, usize::MAX] {
            assert!(
                matches!(run(&config, sampler, steps), Err(Error::Value { .. })),
                "{sampler} {steps}"
            );
        }
    }
    // With 1000 steps `steps_offset` puts the first at 1000; diffusers has an IndexError there.
    assert!(config.check(Sampler::Ddim, 1000).is_err());
    assert!(config.check(Sampler::Ddim, 999).is_ok());
}

#[test]
fn any_possible_steps_stay_finite() {
    let texts = [
        "",
        r#", "timestep_spacing": "leading""#,
        r#", "timestep_spacing": "trailing""#,
    ];
    for extra in texts {
        for skip in [true, false] {
            let text = format!(
                r#"{{"_class_name": "PNDMScheduler", "num_train_timesteps": 40, "beta_start": 0.0001, "beta_end": 0.02,
                    "beta_schedule": "linear", "skip_prk_steps": {skip},
                    "set_alpha_to_one": false{extra}}}"#
            );
            let config = config(&text);
            for &sampler in Sampler::ALL {
                for steps in 1..=40 {
                    match run(&config, sampler, steps) {
                        Ok((_, values)) => {
                            assert!(
                                values.iter().all(|value| value.is_finite()),
                                "{sampler} {steps} {text}"
                            );
                        }
                        Err(error) => assert!(matches!(error, Error::Value { .. }), "{error}"),
                    }
                }
            }
        }
    }
}

/// Where the model moves the latents before it answers, the run goes on from there: moved at the first call to where
/// another run begins, it ends where that one does.
#[test]
fn latents_that_the_model_moves_stay_moved() {
    for sampler in Sampler::ALL {
        let run = |seed: u64, to: Option<&[f32]>| {
            let (mut begin, mut noise) = (Vec::new(), Generator::new(5));
            let denoise = |step: &Step, x: &mut [f32]| {
                if step.index == 0 {
                    if let Some(to) = to {
                        x.copy_from_slice(to);
                    }
                    begin = x.to_vec();
                }
                Ok::<_, Error>(model(step, x))
            };
            let latents = Generator::new(seed).randn(VALUES);
            let config = stable_diffusion();
            let end = sample(*sampler, &config, 6, latents, denoise, || {
                Ok(noise.randn(VALUES))
            });
            (begin, end.unwrap())
        };
        let (begin, want) = run(1, None);
        assert_ne!(want, run(2, None).1);
        for (got, want) in run(2, Some(&begin)).1.iter().zip(&want) {
            assert!(
                (got - want).abs() <= TOLERANCE * want.abs().max(1.0),
                "{sampler}: {got} {want}"
            );
        }
    }
}

/// What is drawn stays the same for whoever shares the generator.
#[test]
fn noise_is_drawn_as_often_as_diffusers_draws_it() {
    for &sampler in Sampler::ALL {
        let mut draws = 0;
        let denoise = |step: &Step, x: &mut [f32]| Ok::<_, Error>(model(step, x));
        let noise = || {
            draws += 1;
            Ok(vec![0.5; 4])
        };
        sample(
            sampler,
            &stable_diffusion(),
            6,
            vec![0.5; 4],
            denoise,
            noise,
        )
        .unwrap();
        let want = match sampler {
            Sampler::EulerA | Sampler::DpmPp2MSde => 6,
            Sampler::Lcm => 5,
            _ => 0,
        };
        assert_eq!(draws, want, "{sampler}");
    }
}

#[test]
fn closures_must_return_as_many_values() {
    let config = stable_diffusion();
    let short = |_: &Step, _: &mut [f32]| Ok::<_, Error>(vec![0.0; 3]);
    let none = || Ok(Vec::new());
    assert!(sample(Sampler::Ddim, &config, 2, vec![0.0; 4], short, none).is_err());
    let right = |_: &Step, _: &mut [f32]| Ok::<_, Error>(vec![0.0; 4]);
    assert!(sample(Sampler::EulerA, &config, 2, vec![0.0; 4], right, none).is_err());
    assert!(sample(Sampler::Euler, &config, 2, vec![0.0; 4], right, none).is_ok());
}

/// What cannot be begun at is told before the model is called.
#[test]
fn a_run_from_a_picture_takes_at_least_one_step() {
    let text = Golden::samplers().config("pndm-prk");
    let runs = |sampler, config: &ScheduleConfig, strength, noise| {
        let start = Start::Picture {
            latents: vec![0.5; 4],
            noise: vec![0.1; noise],
            strength,
        };
        let mut calls = 0;
        let denoise = |_: &Step, x: &mut [f32]| {
            calls += 1;
            Ok::<_, Error>(x.to_vec())
        };
        let result = sample(sampler, config, 10, start, denoise, || Ok(vec![0.2; 4]));
        match result {
            Ok(_) => calls,
            Err(error) => {
                assert!(matches!(error, Error::Value { .. }), "{error}");
                assert_eq!(calls, 0, "{error}");
                0
            }
        }
    };
    for &sampler in Sampler::ALL {
        let config = stable_diffusion();
        for strength in [0.0, -0.5, 0.09, 1.01, f64::NAN] {
            assert_eq!(
                runs(sampler, &config, strength, 4),
                0,
                "{sampler} {strength}"
            );
        }
        assert_eq!(runs(sampler, &config, 0.5, 3), 0, "{sampler}");
        let want = match sampler {
            Sampler::Heun => 9,
            Sampler::Pndm => 6,
            _ => 5,
        };
        assert_eq!(runs(sampler, &config, 0.5, 4), want, "{sampler}");
    }
    assert_eq!(runs(Sampler::Pndm, &config(&text), 0.5, 4), 0);
}

#[test]
fn an_error_ends_the_run_at_once() {
    let mut calls = 0;
    let denoise = |step: &Step, x: &mut [f32]| {
        calls += 1;
        if step.index == 2 {
            Err(Error::Interrupted)
        } else {
            Ok(x.to_vec())
        }
    };
    let result = sample(
        Sampler::DpmPp2M,
        &stable_diffusion(),
        9,
        vec![0.5; 4],
        denoise,
        || Ok(Vec::new()),
    );
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(calls, 3);
}

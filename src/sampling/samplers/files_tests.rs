//! Files that people have, and every key and value in them, with every sampler, as diffusers has it:
//! `tests/golden/make_schedulers.py`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::golden::Golden;
use super::super::noise::Generator;
use super::super::schedule::ScheduleConfig;
use super::tests::model;
use super::*;

/// Length and seed of the runs in `make_schedulers.py`.
const VALUES: usize = 16;
const SEED: u64 = 23;

/// Of the largest value of a run, or of 1; the worst is 3.7e-6.
const TOLERANCE: f32 = 1e-5;

/// What diffusers draws, and is refused here, by key and value.
const REFUSED_HERE_ALONE: &[&str] = &[
    r#""algorithm_type": "sde-dpmsolver++": dpm++2m"#,
    r#""clip_sample_range": null: all"#,
    r#""disable_corrector": [1]: unipc"#,
    r#""final_sigmas_type": "x": ddim euler-a heun pndm lcm"#,
    r#""final_sigmas_type": null: ddim euler-a heun pndm lcm"#,
    r#""interpolation_type": "log_linear": euler"#,
    r#""lambda_min_clipped": null: unipc ddim euler euler-a heun pndm lcm"#,
    r#""original_inference_steps": 20: lcm"#,
    r#""predict_epsilon": false: all"#,
    r#""prediction_type": "flow_prediction": dpm++2m dpm++2m-sde unipc"#,
    r#""prediction_type": "sample": dpm++2m dpm++2m-sde unipc ddim euler heun lcm"#,
    r#""rescale_betas_zero_snr": true: ddim"#,
    r#""sigma_max": 9.0: dpm++2m dpm++2m-sde unipc euler heun"#,
    r#""sigma_min": 0.1: dpm++2m dpm++2m-sde unipc euler heun"#,
    r#""skip_prk_steps": null: all"#,
    r#""solver_order": 1: dpm++2m dpm++2m-sde unipc"#,
    r#""solver_order": 3: dpm++2m dpm++2m-sde unipc"#,
    r#""timestep_scaling": 5.0: lcm"#,
    r#""timestep_spacing": "karras": lcm"#,
    r#""timestep_spacing": null: lcm"#,
    r#""timestep_type": "continuous": euler"#,
    r#""timestep_type": "continuous", "prediction_type": "v_prediction": euler"#,
    r#""use_exponential_sigmas": true: dpm++2m dpm++2m-sde unipc euler heun"#,
    r#""use_flow_sigmas": true: dpm++2m dpm++2m-sde unipc"#,
    r#""use_flow_sigmas": true, "prediction_type": "flow_prediction": dpm++2m dpm++2m-sde unipc"#,
    r#""use_karras_sigmas": true, "sigma_min": 0.1: dpm++2m dpm++2m-sde unipc euler heun"#,
    r#""use_lu_lambdas": true: dpm++2m dpm++2m-sde"#,
    r#""variance_type": "learned": unipc ddim euler euler-a heun pndm lcm"#,
    r#""variance_type": "learned_range": unipc ddim euler euler-a heun pndm lcm"#,
    "dpm-sde-karras: dpm++2m",
    "without betas: heun lcm",
];

/// What diffusers refuses, and is drawn here: values that the class of the file refuses and the sampler's does not
/// heed; and "deis", which `DPMSolverMultistepScheduler` means to read as its own algorithm, and then trips over.
const DRAWN_HERE_ALONE: &[&str] = &[
    r#""algorithm_type": "deis": dpm++2m"#,
    r#""use_beta_sigmas": null: ddim euler-a pndm lcm"#,
    r#""use_beta_sigmas": true: ddim euler-a pndm lcm"#,
    r#""use_exponential_sigmas": null: ddim euler-a pndm lcm"#,
    r#""use_karras_sigmas": true, "use_exponential_sigmas": true: ddim euler-a pndm lcm"#,
    "deis: dpm++2m",
    "deis-logrho: dpm++2m",
];

#[derive(Deserialize)]
struct Table {
    configs: BTreeMap<String, Config>,
    /// Calls of the model in each.
    runs: Vec<usize>,
}

#[derive(Deserialize)]
struct Config {
    file: String,
    steps: Vec<Steps>,
    /// By sampler; -1 where diffusers refuses.
    runs: BTreeMap<String, Vec<i64>>,
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(untagged)]
enum Steps {
    FromNoise(usize),
    FromPicture(usize, f64),
}

/// Timesteps and result.
fn run(text: &str, sampler: Sampler, steps: Steps) -> Result<(Vec<f32>, Vec<f32>)> {
    let config = ScheduleConfig::parse("scheduler_config.json", text)?;
    let mut generator = Generator::new(SEED);
    let latents = generator.randn(VALUES);
    let (steps, start) = match steps {
        Steps::FromNoise(steps) => (steps, Start::Noise(latents)),
        Steps::FromPicture(steps, strength) => {
            let noise = generator.randn(VALUES);
            (
                steps,
                Start::Picture {
                    latents,
                    noise,
                    strength,
                },
            )
        }
    };
    let mut timesteps = Vec::new();
    let denoise = |step: &Step, x: &mut [f32]| {
        assert_eq!(step.index, timesteps.len());
        timesteps.push(step.timestep);
        Ok::<_, Error>(model(step, x))
    };
    let end = sample(sampler, &config, steps, start, denoise, || {
        Ok(generator.randn(VALUES))
    })?;
    Ok((timesteps, end))
}

#[test]
fn what_diffusers_draws_is_drawn_alike_and_what_it_refuses_is_refused() {
    let json = include_str!("../../../tests/golden/schedulers.json");
    let table: Table = serde_json::from_str(json).unwrap();
    let numbers = Golden::schedulers().f32("numbers");
    let mut at = 0;
    let goldens: Vec<(&[f32], &[f32])> = table
        .runs
        .iter()
        .map(|calls| {
            let (timesteps, result) = numbers[at..at + calls + VALUES].split_at(*calls);
            at += calls + VALUES;
            (timesteps, result)
        })
        .collect();
    let (mut drawn, mut refused, mut wrong) = (0, 0, Vec::new());
    let mut worst = (0.0, String::new());
    // What diffusers draws and we do not, and the reverse.
    let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
    for (name, config) in &table.configs {
        assert_eq!(config.runs.len(), Sampler::ALL.len(), "{name}");
        for &sampler in Sampler::ALL {
            let runs = &config.runs[sampler.name()];
            for (&steps, &golden) in config.steps.iter().zip(runs) {
                let row = format!("{name} {sampler} {steps:?}");
                let got = run(&config.file, sampler, steps);
                let golden = usize::try_from(golden).ok().map(|index| goldens[index]);
                match (got, golden) {
                    (Err(_), None) => refused += 1,
                    (Err(error), Some(_)) => {
                        let told = error.to_string();
                        assert!(
                            told.starts_with("scheduler_config.json: `"),
                            "{row}: {told}"
                        );
                        ours.entry(&**name)
                            .or_insert_with(Vec::new)
                            .push(sampler.name());
                    }
                    (Ok(_), None) => {
                        theirs
                            .entry(&**name)
                            .or_insert_with(Vec::new)
                            .push(sampler.name());
                    }
                    (Ok((timesteps, got)), Some((want_timesteps, want))) => {
                        drawn += 1;
                        let near = got.iter().all(|value| value.is_finite())
                            && timesteps.len() == want_timesteps.len()
                            && timesteps
                                .iter()
                                .zip(want_timesteps)
                                .all(|(a, b)| (a - b).abs() <= 1e-4);
                        let largest = want.iter().fold(1.0, |a: f32, b| a.max(b.abs()));
                        let errors = got.iter().zip(want).map(|(a, b)| (a - b).abs() / largest);
                        let error = errors.fold(0.0, f32::max);
                        if error > worst.0 {
                            worst = (error, row.clone());
                        }
                        if !near || error > TOLERANCE {
                            wrong.push(format!(
                                "{row}: {error}, {timesteps:?} for {want_timesteps:?}"
                            ));
                        }
                    }
                }
            }
        }
    }
    eprintln!("{drawn} drawn, {refused} refused by both; worst {worst:?}");
    let listed = |found: BTreeMap<&str, Vec<&'static str>>| -> Vec<String> {
        let line = |(name, mut samplers): (&str, Vec<&str>)| {
            samplers.dedup();
            let all = samplers.len() == Sampler::ALL.len();
            format!(
                "{name}: {}",
                if all {
                    "all".to_owned()
                } else {
                    samplers.join(" ")
                }
            )
        };
        found.into_iter().map(line).collect()
    };
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(listed(ours), REFUSED_HERE_ALONE);
    assert_eq!(listed(theirs), DRAWN_HERE_ALONE);
}

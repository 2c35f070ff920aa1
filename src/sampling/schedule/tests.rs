//! Schedules against diffusers, and what a file may say.

use super::super::golden::Golden;
use super::*;

fn parse(text: &str) -> Result<ScheduleConfig> {
    ScheduleConfig::parse("scheduler/scheduler_config.json", text)
}

/// Stable Diffusion's file with more in it.
fn with(extra: &str) -> Result<ScheduleConfig> {
    let golden = Golden::samplers();
    let text = golden.config("sd-epsilon");
    parse(&text.replacen('{', &format!("{{{extra},"), 1))
}

/// The steps from betas to products round as PyTorch's do, but for `torch.linspace`, which depends
/// on the CPU's instruction set: an ulp of a beta is 1e-9 of `1-β`, a thousand of them 1e-6 of the
/// product.
#[test]
fn alphas_are_diffusers() {
    let golden = Golden::samplers();
    for name in golden
        .names()
        .filter_map(|name| name.strip_suffix(".alphas_cumprod"))
    {
        let config = parse(&golden.config(name)).unwrap();
        let want = golden.f32(&format!("{name}.alphas_cumprod"));
        assert_eq!(config.num_train_timesteps(), want.len(), "{name}");
        let mut differing = 0;
        for (t, (got, want)) in config.alphas_cumprod().iter().zip(&want).enumerate() {
            assert!(
                (got - want).abs() <= 1e-6 * want,
                "{name}[{t}]: {got}, diffusers has {want}"
            );
            differing += usize::from(got != want);
            assert_eq!(config.alpha_bar(t).unwrap(), *got);
        }
        eprintln!("{name}: {differing} of {} differ", want.len());
        assert!(config.alpha_bar(want.len()).is_err());
    }
}

#[test]
fn stable_diffusions_file() {
    let config = with(r#""prediction_type": "v_prediction""#).unwrap();
    assert_eq!(config.prediction(), Prediction::Velocity);
    assert_eq!(config.num_train_timesteps(), 1000);
    let (signal, noise) = config.signal_and_noise(500).unwrap();
    assert!((signal * signal + noise * noise - 1.0).abs() < 1e-6);
    assert_eq!(config.spacing, None);
    let spaced = with(r#""timestep_spacing": "trailing""#).unwrap();
    assert_eq!(spaced.spacing, Some(Spacing::Trailing));
}

#[test]
fn unsupported_values_name_their_key() {
    for (extra, key) in [
        (r#""beta_schedule": "sigmoid""#, "beta_schedule"),
        (r#""prediction_type": "sample""#, "prediction_type"),
        (r#""prediction_type": "flow_prediction""#, "prediction_type"),
        (r#""timestep_spacing": "karras""#, "timestep_spacing"),
        (r#""variance_type": "learned_range""#, "variance_type"),
        (r#""something_new": 2"#, "something_new"),
        (r#""set_alpha_to_one": "no""#, "set_alpha_to_one"),
        (r#""num_train_timesteps": 0"#, "num_train_timesteps"),
        (r#""num_train_timesteps": 1e9"#, "num_train_timesteps"),
        (r#""beta_end": 2"#, "beta_schedule"),
        (r#""beta_start": -1"#, "beta_schedule"),
        (r#""beta_start": NaN"#, "beta_start"),
        (r#""beta_start": 1e-12"#, "beta_schedule"),
        (r#""beta_end": 0.999"#, "beta_schedule"),
        (r#""trained_betas": [0.1, 0.2]"#, "trained_betas"),
        (r#""trained_betas": [0.1, "x"]"#, "trained_betas"),
        (r#""rescale_betas_zero_snr": 1"#, "rescale_betas_zero_snr"),
        (r#""steps_offset": 1.5"#, "steps_offset"),
        (r#""clip_sample_range": -Infinity"#, "clip_sample_range"),
    ] {
        let name = extra.split('"').nth(1).unwrap();
        // serde_json keeps the last of two equal keys, so the file's own must go.
        let mut map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&Golden::samplers().config("sd-epsilon")).unwrap();
        map.remove(name);
        let text = serde_json::to_string(&map)
            .unwrap()
            .replacen('{', &format!("{{{extra},"), 1);
        match parse(&text).unwrap_err() {
            Error::Config {
                file, key: found, ..
            } => {
                assert_eq!(
                    (file.as_str(), found.as_str()),
                    ("scheduler/scheduler_config.json", key)
                );
            }
            other => panic!("{extra}: {other}"),
        }
    }
}

#[test]
fn outdated_settings_are_put_right() {
    let config =
        parse(r#"{"_class_name": "DDIMScheduler", "clip_sample": true, "steps_offset": 0}"#)
            .unwrap();
    assert_eq!((config.has_clip_sample, config.steps_offset), (true, 1));
    // Not in the file, so the class that is used decides, as `from_config` has it.
    let config = parse(r#"{"_class_name": "DDIMScheduler"}"#).unwrap();
    assert_eq!(
        (
            config.has_clip_sample,
            config.clip_range,
            config.steps_offset
        ),
        (false, 1.0, 0)
    );
    let used = r#"{"_class_name": "DDIMScheduler", "_use_default_values": ["steps_offset"], "steps_offset": 3}"#;
    assert_eq!(parse(used).unwrap().steps_offset, 0);
}

#[test]
fn damaged_files_are_errors() {
    for text in [
        "",
        "[]",
        "{",
        "null",
        r#"{"a": }"#,
        r#"{"_class_name": null}"#,
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#,
    ] {
        assert!(matches!(parse(text), Err(Error::File { .. })), "{text}");
    }
    // What is absent is the default, the class too.
    parse("{}").unwrap();
}

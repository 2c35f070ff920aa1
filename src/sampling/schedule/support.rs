//! Which classes, keys and values of a `scheduler_config.json` are supported.

use serde_json::Value;

use super::super::samplers::Sampler;
use crate::config::ConfigReader;
use crate::{Error, Result};

/// A value of the file that some samplers would need and do not support.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The key.
    pub(super) key: &'static str,
    /// The samplers that heed it.
    pub(super) samplers: &'static [Sampler],
    /// The values that they support.
    pub(super) expected: String,
    /// The value in the file.
    pub(super) found: String,
}

/// The classes that write files of this kind. Others (flow matching, consistency, EDM) have keys of
/// other meanings.
pub(super) const CLASSES: &[&str] = &[
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
];

/// That the file is of one of [`CLASSES`], as far as it says: told first, for the keys of others mean other things.
pub(super) fn check_class(file: &str, keys: &mut ConfigReader) -> Result<()> {
    let found = match keys.take("_class_name") {
        None => return Ok(()),
        Some(Value::String(class)) if CLASSES.contains(&class.as_str()) => return Ok(()),
        Some(Value::String(class)) => format!("{}{}", class.escape_debug(), about(&class)),
        Some(other) => format!("`_class_name` {other}"),
    };
    let hint = "pass a model whose scheduler is one of these, such as the one that this was made from; which sampler draws is chosen apart from it";
    let expected = format!("a scheduler of Stable Diffusion, {}", CLASSES.join(", "));
    Err(Error::file(file, expected, found, hint))
}

/// What there is to know about another class.
fn about(class: &str) -> &'static str {
    match class {
        "LCMScheduler" | "TCDScheduler" => {
            ", of a model that was distilled to draw in a few steps of its own kind"
        }
        class if class.contains("FlowMatch") => ", of a model that was trained by flow matching",
        class if class.contains("EDM") => ", of a model of another preconditioning",
        _ => "",
    }
}

/// ConfigReader of those classes that change nothing in any sampler here.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "flow_shift",
    "predict_x0",
    "sample_max_value",
    "shift_terminal",
    "solver_p",
    "tensor_format",
    "time_shift_type",
    "use_dynamic_shifting",
];

const DPM: &[Sampler] = &[Sampler::DpmPp2M];
const EULER: &[Sampler] = &[Sampler::Euler];
const DPM_EULER: &[Sampler] = &[Sampler::DpmPp2M, Sampler::Euler];

/// ConfigReader that are supported at some values only: the key, these values as JSON, and the samplers
/// that heed it.
const SWITCHES: &[(&str, &[&str], &[Sampler])] = &[
    // diffusers reads "deis", "logrho", "bh1" and "bh2", which other classes write, as its own
    // defaults.
    ("algorithm_type", &["\"dpmsolver++\"", "\"deis\""], DPM),
    ("interpolation_type", &["\"linear\""], EULER),
    ("predict_epsilon", &["true", "null"], Sampler::ALL),
    ("sigma_max", &["null"], DPM_EULER),
    ("sigma_min", &["null"], DPM_EULER),
    ("solver_order", &["2"], DPM),
    (
        "solver_type",
        &["\"midpoint\"", "\"logrho\"", "\"bh1\"", "\"bh2\""],
        DPM,
    ),
    (
        "thresholding",
        &["false", "null"],
        &[Sampler::DpmPp2M, Sampler::Ddim],
    ),
    ("timestep_type", &["\"discrete\"", "null"], EULER),
    ("use_beta_sigmas", &["false"], DPM_EULER),
    ("use_exponential_sigmas", &["false"], DPM_EULER),
    ("use_flow_sigmas", &["false", "null"], DPM),
    ("use_lu_lambdas", &["false", "null"], DPM),
    (
        "variance_type",
        &[
            "null",
            "\"fixed_small\"",
            "\"fixed_small_log\"",
            "\"fixed_large\"",
            "\"fixed_large_log\"",
        ],
        Sampler::ALL,
    ),
];

/// Takes all [`SWITCHES`] out of `keys`: those that no sampler supports are an error, the others
/// are returned.
pub(super) fn refusals(keys: &mut ConfigReader) -> Result<Vec<Refusal>> {
    let mut refusals = Vec::new();
    for &(key, supported, samplers) in SWITCHES {
        let Some(found) = keys.take(key).map(|value| value.to_string()) else {
            continue;
        };
        if supported.contains(&found.as_str()) {
            continue;
        }
        let expected = supported.join(" or ");
        if samplers.len() == Sampler::ALL.len() {
            return Err(keys.error(key, expected, found));
        }
        refusals.push(Refusal {
            key,
            samplers,
            expected,
            found,
        });
    }
    Ok(refusals)
}

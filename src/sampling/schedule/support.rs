//! Which classes, keys and values of a `scheduler_config.json` are supported.

use serde_json::Value;

use crate::config::ConfigReader;
use crate::{Error, Result};

/// A key that a sampler heeds, and the values, as JSON, that it takes.
pub(in crate::sampling) type Heeded = (&'static str, &'static [&'static str]);

/// The classes that write files of this kind. Others (flow matching, consistency, EDM) have keys of
/// other meanings.
const CLASSES: &[&str] = &[
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
    let hint = "pass a model whose scheduler is one of these, such as the one that this was made from; which sampler \
                draws is chosen apart from it";
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
        class if class.contains("EDM") => {
            ", of a model of another preconditioning, as Playground v2.5 and CosXL are"
        }
        _ => "",
    }
}

/// Keys of those classes that change nothing in any sampler here.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "dynamic_thresholding_ratio",
    "flow_shift",
    "sample_max_value",
    "tensor_format",
    "time_shift_type",
];

/// Keys that every sampler takes at these values only.
pub(super) const OF_ALL: &[Heeded] = &[
    ("predict_epsilon", &["true", "null"]),
    // What is learned of the variance is more channels of the model's output.
    (
        "variance_type",
        &[
            "null",
            "\"fixed_small\"",
            "\"fixed_small_log\"",
            "\"fixed_large\"",
            "\"fixed_large_log\"",
        ],
    ),
];

/// Takes `key` out of `keys`, with one of the supported values or absent.
pub(super) fn only(keys: &mut ConfigReader, key: &str, supported: &[&str]) -> Result<()> {
    match keys.take(key).map(|value| value.to_string()) {
        Some(found) if !supported.contains(&found.as_str()) => {
            Err(keys.error(key, supported.join(" or "), found))
        }
        _ => Ok(()),
    }
}

//! What ModelSpec calls the architecture of a model.

use crate::Pipeline;
use crate::checkpoint::POCKET;
use crate::sampling::Prediction;

/// The name in ModelSpec's list, where the model is one of that list; the small one that is built in has its own.
pub(super) fn architecture(pipeline: &Pipeline) -> Option<String> {
    let (width, prediction) = (
        pipeline.unet().context_width(),
        pipeline.schedule().prediction(),
    );
    let name = match pipeline.name == POCKET {
        true => Some(POCKET),
        false => of_widths(width, prediction),
    };
    name.map(str::to_owned)
}

/// By the width of the text that cross-attentions see, which no two families share.
fn of_widths(context: usize, prediction: Prediction) -> Option<&'static str> {
    match (context, prediction) {
        (768, _) => Some("stable-diffusion-v1"),
        (1024, Prediction::Epsilon) => Some("stable-diffusion-v2-512"),
        (1024, Prediction::Velocity) => Some("stable-diffusion-v2-768-v"),
        (2048, _) => Some("stable-diffusion-xl-v1-base"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_widths() {
        use Prediction::{Epsilon, Velocity};
        for (context, prediction, name) in [
            (768, Epsilon, Some("stable-diffusion-v1")),
            (1024, Epsilon, Some("stable-diffusion-v2-512")),
            (1024, Velocity, Some("stable-diffusion-v2-768-v")),
            (2048, Epsilon, Some("stable-diffusion-xl-v1-base")),
            (1280, Epsilon, None),
            (32, Velocity, None),
        ] {
            assert_eq!(of_widths(context, prediction), name, "{context}");
        }
    }
}

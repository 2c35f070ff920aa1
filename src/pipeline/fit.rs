//! Whether the networks of a model belong together.

use super::text::{TextEncoders, foreign};
use crate::checkpoint::kinds::REFINER;
use crate::model::{UNet, Vae};
use crate::{Error, Result};

/// That the networks are of one model, and of one that is supported.
///
/// # Errors
/// If they are not, naming the key that says so.
pub(super) fn check_fit(text: &TextEncoders, unet: &UNet, vae: &Vae) -> Result<()> {
    let differ = |key: &str, expected: String, found: &dyn ToString| {
        let place = format!("unet/config.json: `{key}`");
        Err(foreign(place, expected, found.to_string()))
    };
    const TYPE: &str = "addition_embed_type";
    match (unet.added(), text.pooled()) {
        (None, None) => {}
        (Some(added), Some(pooled)) if added.pooled() == Some(pooled) => {}
        // Five numbers in place of six: the last two are one score of beauty.
        (Some(added), Some(pooled)) if added.input == pooled + 5 * added.size => {
            let hint = "pass the base model of Stable Diffusion XL";
            let expected = "the UNet of a base model of Stable Diffusion XL";
            return Err(Error::file("unet/config.json", expected, REFINER, hint));
        }
        (Some(added), Some(pooled)) => {
            let key = "projection_class_embeddings_input_dim";
            let width = pooled + 6 * added.size;
            let expected =
                format!("{width}: the second text encoder's projection_dim, and six sizes");
            return differ(key, expected, &added.input);
        }
        (Some(_), None) => {
            let expected = "no such key: there is one text encoder, no `text_encoder_2`";
            return differ(TYPE, expected.to_owned(), &"text_time");
        }
        (None, Some(_)) => {
            let expected = "text_time: there are two text encoders";
            return differ(TYPE, expected.to_owned(), &"none");
        }
    }
    if text.width() != unet.context_width() {
        let whose = match text.pooled() {
            None => "the text encoder's hidden_size",
            Some(_) => "the sum of the text encoders' hidden_size",
        };
        let expected = format!("{}, {whose}", text.width());
        return differ("cross_attention_dim", expected, &unet.context_width());
    }
    if vae.channels() != unet.channels() {
        let expected = format!("{}, the autoencoder's latent_channels", vae.channels());
        return differ("in_channels", expected, &unet.channels());
    }
    Ok(())
}

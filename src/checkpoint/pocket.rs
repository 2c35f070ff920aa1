//! The pocket model's files, built into the program. `examples/pocket/` has its recipe.

/// The nouns of its world (`CLASSES` in `examples/pocket/world.py`): it draws nothing else.
pub const POCKET_NOUNS: [&str; 12] = [
    "dog", "cat", "bear", "rabbit", "duck", "fish", "car", "house", "hat", "flower", "ball", "cup",
];

macro_rules! embed {
    ($($file:literal)*) => {
        /// The bytes of a file of the pocket model.
        pub(super) fn file(name: &str) -> Option<&'static [u8]> {
            match name {
                $($file => Some(include_bytes!(concat!("../../examples/pocket/model/", $file))),)*
                _ => None,
            }
        }
    };
}

embed! {
    "clip/config.json"
    "clip/model.safetensors"
    "clip/preprocessor_config.json"
    "cones.json"
    "scheduler/scheduler_config.json"
    "text_encoder/config.json"
    "text_encoder/model.safetensors"
    "tokenizer/tokenizer.json"
    "tokenizer/tokenizer_config.json"
    "unet/config.json"
    "unet/diffusion_pytorch_model.safetensors"
    "vae/config.json"
    "vae/diffusion_pytorch_model.safetensors"
}

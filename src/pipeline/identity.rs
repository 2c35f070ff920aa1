//! Which model it is: its fingerprint, all that its pictures depend on, and whether its files are still the same.

use candle_core::DType;
use half::f16;
use sha2::{Digest, Sha256};

use super::Pipeline;
use crate::Result;
use crate::checkpoint::Pages;
use crate::files::hex;
use crate::index::SiteSelection;

impl Pipeline {
    /// SHA-256 over the K and V weights of the UNet in order of name, each as little-endian f16: the same for f32, f16
    /// and single-file copies of one model. It is of the weights as loaded, whatever is shut since, and computed once.
    ///
    /// # Errors
    /// If a weight cannot be read back from the device.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let mut hash = Sha256::new();
        for weight in self.unet.site_weights(SiteSelection::All).values() {
            let values = weight
                .tensor()?
                .to_dtype(DType::F16)?
                .flatten_all()?
                .to_vec1::<f16>()?;
            hash.update(
                values
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect::<Vec<u8>>(),
            );
        }
        Ok(self
            .fingerprint
            .get_or_init(|| hex(&hash.finalize()))
            .clone())
    }

    /// What the model's own pictures of `prompts` depend on beside seeds and options: SHA-256 over all weights and
    /// configurations, and over what the tokenizer makes of the prompts. It reads every byte of the weights.
    ///
    /// # Errors
    /// If a prompt cannot be split into tokens.
    pub(crate) fn identity(&self, prompts: &[&str]) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.configs);
        hash.update(self.unet.dtype().as_str());
        for pages in self.all_pages() {
            hash.update(pages.sha256());
        }
        for prompt in prompts {
            for tokenizer in self.tokenizers() {
                let ids = tokenizer.encode(prompt)?;
                hash.update(ids.len().to_le_bytes());
                ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            }
        }
        Ok(hex(&hash.finalize()))
    }

    /// The memory of all weights.
    fn all_pages(&self) -> impl Iterator<Item = &Pages> {
        let others = [&self.pages.unet, &self.pages.vae];
        self.text.pages().chain(others)
    }

    /// That the weight files on disk are still those that were loaded. They are read from all the time: of a file that
    /// was changed during a run, the result would be of no one model.
    ///
    /// # Errors
    /// If a file was changed, replaced or removed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.all_pages().try_for_each(Pages::check_unchanged)
    }

    /// The sizes and times of the weight files, and the SHA-256 of the configuration files, as text: cheap to have.
    pub(crate) fn stamps(&self) -> String {
        let stamps: Vec<String> = self.all_pages().map(Pages::stamps).collect();
        format!(
            "{} {:?} {}",
            hex(&self.configs),
            self.unet.dtype(),
            stamps.join(" ")
        )
    }
}

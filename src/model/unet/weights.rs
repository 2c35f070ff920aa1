//! The weights of a UNet's sites: read, exchanged, and given to subjects for their own words.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::attention::Projection;
use super::transformer::Transformer;
use super::{Layer, UNet};
use crate::index::{Scope, Site, SiteSelection};
use crate::nn::{Linear, Weight};
use crate::{IndexError, Result};

impl UNet {
    fn projections(&self) -> impl Iterator<Item = &Projection> {
        self.transformers().flat_map(Transformer::projections)
    }

    fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        let transformers = self.layers.iter_mut().filter_map(|layer| match layer {
            Layer::Transformer(transformer) => Some(&mut **transformer),
            _ => None,
        });
        transformers.flat_map(Transformer::projections_mut)
    }

    pub(super) fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.layers.iter().filter_map(|layer| match layer {
            Layer::Transformer(transformer) => Some(&**transformer),
            _ => None,
        })
    }

    /// The weights of the selected sites, each `[out, in]`, as they are held.
    pub(crate) fn site_weights(&self, selection: SiteSelection) -> BTreeMap<Site, Weight> {
        self.projections()
            .filter(|p| selection.contains(&p.site))
            .map(|p| (p.site.clone(), p.linear.weight().clone()))
            .collect()
    }

    /// The weights of the selected sites as f32 tensors, each `[out, in]`.
    ///
    /// # Errors
    /// If a weight cannot be read.
    pub(crate) fn site_tensors(&self, selection: SiteSelection) -> Result<BTreeMap<Site, Tensor>> {
        let weights = self.site_weights(selection).into_iter();
        weights
            .map(|(site, weight)| Ok((site, weight.tensor()?)))
            .collect()
    }

    /// Calls `f`, which may change weights, and puts them back as they were, with none at words.
    ///
    /// # Errors
    /// Those of `f`.
    pub(crate) fn restoring<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let original = self.site_weights(SiteSelection::All);
        let result = f(self);
        self.set_word_weights(Vec::new())?;
        self.set_site_weights(original)?;
        result
    }

    /// Puts other weights, of the same shapes, in place of those of these sites.
    ///
    /// # Errors
    /// If the model has no such site, or its shape is another.
    ///
    /// # Panics
    /// If a tensor is no matrix.
    pub(crate) fn set_site_weights<W: Into<Weight>>(
        &mut self,
        mut weights: BTreeMap<Site, W>,
    ) -> Result<()> {
        for projection in self.projections_mut() {
            if let Some(weight) = weights.remove(&projection.site) {
                projection.linear.set_weight(projection.fitting(weight)?);
            }
        }
        none_left(weights)
    }

    /// Puts the weights of one concept in place where it is in force: [`UNet::set_site_weights`] or
    /// [`UNet::set_word_weights`].
    ///
    /// # Errors
    /// As those.
    pub(crate) fn set_weights_of(
        &mut self,
        scope: Scope,
        weights: BTreeMap<Site, Tensor>,
    ) -> Result<()> {
        match scope {
            Scope::Prompt => self.set_site_weights(weights),
            Scope::Words => self.set_word_weights(vec![weights]),
        }
    }

    /// How many subjects have weights of their own at their words.
    pub(crate) fn subjects(&self) -> usize {
        let own = self.projections().map(|p| p.at_words.len());
        own.max().unwrap_or(0)
    }

    /// Gives each subject weights of its own, of the same shapes, for these sites: they are used at the tokens that a
    /// [`Conditioning`](crate::model::Conditioning) has as the words of the subject of that number. An empty list takes
    /// all of them back.
    ///
    /// # Errors
    /// If the model has no such site that sees text, or its shape is another.
    ///
    /// # Panics
    /// If a tensor is no matrix.
    pub(crate) fn set_word_weights(
        &mut self,
        mut subjects: Vec<BTreeMap<Site, Tensor>>,
    ) -> Result<()> {
        for projection in self.projections_mut().filter(|p| p.site.is_cross()) {
            let mut own = Vec::with_capacity(subjects.len());
            for weights in &mut subjects {
                let weight = weights.remove(&projection.site);
                let weight = weight.map(|w| projection.fitting(w)).transpose()?;
                own.push(weight.map(|weight| Linear::new(weight, None)));
            }
            projection.at_words = own;
        }
        subjects.into_iter().try_for_each(none_left)
    }
}

/// That every weight has found its site.
fn none_left<W>(weights: BTreeMap<Site, W>) -> Result<()> {
    match weights.into_keys().next() {
        None => Ok(()),
        Some(site) => Err(IndexError::NotInModel {
            site: site.to_string(),
            expected: "a site of this model".to_owned(),
            found: "none of that name".to_owned(),
        }
        .into()),
    }
}

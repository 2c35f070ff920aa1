//! How much memory passes through the UNet need, by the shapes of its layers, and which layers to compute again in a
//! backward pass so that it fits.
//!
//! A layer that is computed again keeps its input instead of everything that its backward pass reads; of others what
//! products give may be computed again. The numbers are the same to the last bit.

use std::collections::BTreeMap;

use super::super::footprint::{Footprint, LayerNeeds, bytes};
use super::{Kept, Layer, UNet};
use crate::Size;
use crate::checkpoint::TensorFile;

impl UNet {
    /// What a forward pass needs for `rows` latents of this size.
    pub(crate) fn forward_footprint(&self, rows: usize, size: Size) -> Footprint {
        let Walk { needs, skips } = self.needs(rows, size);
        Footprint {
            kept: skips,
            working: needs.iter().map(|n| n.working).max().unwrap_or(0),
            recomputed: 0,
        }
    }

    /// What a forward pass and the backward pass to the sites need for `rows` latents of this size, as
    /// [`UNet::plan_memory`] left it.
    pub(crate) fn backward_footprint(&self, rows: usize, size: Size) -> Footprint {
        self.footprint(&self.needs(rows, size), &self.kept)
    }

    /// Has the backward pass compute as little again as lets it stay within `budget` bytes: first what products give,
    /// which is kept as long as half of the budget is left, then whole layers, those first that save most by it; all
    /// if that is too little.
    pub(crate) fn plan_memory(&mut self, rows: usize, size: Size, budget: u64) {
        let walk = self.needs(rows, size);
        self.kept = vec![self.most_kept; self.layers.len()];
        self.keep_less(&walk, Kept::Inside, budget / 2);
        self.keep_less(&walk, Kept::Input, budget);
    }

    /// Keeps only `kept` of layers, those first that save most by it, until all is within `budget` bytes.
    fn keep_less(&mut self, walk: &Walk, kept: Kept, budget: u64) {
        let saved = |i: usize| match kept {
            Kept::Input => walk.needs[i].inside,
            Kept::Inside | Kept::Products => walk.needs[i].products,
        };
        let mut layers: Vec<usize> = (self.first_site..self.layers.len())
            .filter(|&i| saved(i) > 0 && self.kept[i] > kept)
            .collect();
        layers.sort_by_key(|&i| std::cmp::Reverse(saved(i)));
        for layer in layers {
            if self.footprint(walk, &self.kept).total() <= budget {
                break;
            }
            self.kept[layer] = kept;
        }
    }

    /// Bytes of the weights that are in memory at once, where they are read in their file, with `others` that take
    /// turns with each layer's: what could not be read there stays.
    pub(crate) fn weights_in_turn(&self, others: u64) -> Option<u64> {
        (self.in_turn).then(|| self.largest_layer.max(others) + self.copied_weights)
    }

    /// Gives back the memory of a layer that has been computed. Its weights are read from their file again in the next
    /// pass, which the system keeps in memory as long as nothing else needs that: a pass takes 2 % longer by it.
    pub(super) fn end_turn(&self) {
        if self.in_turn {
            self.pages.release();
        }
    }

    fn footprint(&self, walk: &Walk, kept: &[Kept]) -> Footprint {
        let mut footprint = Footprint::default();
        for (needs, &kept) in walk.needs.iter().zip(kept).skip(self.first_site) {
            let (inside, again) = match kept {
                Kept::Input => (0, needs.inside),
                Kept::Inside => (needs.inside, 0),
                Kept::Products => (needs.inside + needs.products, 0),
            };
            footprint.kept += needs.input + inside;
            footprint.working = footprint.working.max(needs.working + again);
            footprint.recomputed += usize::from(kept == Kept::Input);
        }
        footprint
    }

    /// What each layer needs, in the order of execution.
    fn needs(&self, rows: usize, mut size: Size) -> Walk {
        let mut channels = self.conv_in.channels().0;
        let (mut skips, mut most, mut sum) = (Vec::new(), 0, 0);
        let mut needs = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let pixels = rows * size.pixels();
            needs.push(match layer {
                Layer::Resnet(resnet) => {
                    channels = resnet.channels().1;
                    resnet.needs(pixels)
                }
                Layer::Transformer(transformer) => transformer.needs(pixels),
                Layer::Downsample(_) => {
                    size = size.map(|side| side.div_ceil(2));
                    LayerNeeds {
                        working: 2 * bytes(channels, pixels),
                        ..LayerNeeds::default()
                    }
                }
                Layer::Upsample(_) => {
                    (_, size) = *skips.last().unwrap_or(&(channels, size));
                    LayerNeeds {
                        working: 2 * bytes(channels, rows * size.pixels()),
                        ..LayerNeeds::default()
                    }
                }
                Layer::Push => {
                    skips.push((channels, size));
                    sum += bytes(channels, pixels);
                    most = most.max(sum);
                    LayerNeeds::default()
                }
                Layer::Pop => {
                    if let Some((skip, _)) = skips.pop() {
                        channels += skip;
                        sum -= bytes(skip, pixels);
                    }
                    LayerNeeds {
                        working: 2 * bytes(channels, pixels),
                        ..LayerNeeds::default()
                    }
                }
            });
        }
        Walk { needs, skips: most }
    }
}

/// Bytes of the layer with the largest weights. A layer's names begin with a block, a list and a number in that:
/// `down_blocks.0.resnets.1`, `mid_block.attentions.0`.
pub(super) fn largest_layer(file: &TensorFile) -> u64 {
    let mut layers: BTreeMap<&str, u64> = BTreeMap::new();
    for name in file.names() {
        let parts = if name.starts_with("mid_block") { 3 } else { 4 };
        let end = name.match_indices('.').nth(parts - 1);
        let layer = &name[..end.map_or(name.len(), |(at, _)| at)];
        *layers.entry(layer).or_default() += file.get(name).map_or(0, |t| t.range.len() as u64);
    }
    layers.into_values().max().unwrap_or(0)
}

/// What the layers of a pass need.
struct Walk {
    needs: Vec<LayerNeeds>,
    /// The most that the way down keeps for the way up.
    skips: u64,
}

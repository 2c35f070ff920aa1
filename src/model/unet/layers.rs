//! The layers of a UNet in the order of execution.

use super::super::loader::{ConvShape, Weights};
use super::super::resnet::{Resnet, ResnetShape, Upsample};
use super::Layer;
use super::config::{Level, UNetConfig};
use super::transformer::{Transformer, TransformerShape};
use crate::Result;

/// Lays out the layers in the order of execution, taking each layer's weights.
pub(in crate::model) struct Builder<'a> {
    config: &'a UNetConfig,
    weights: &'a mut Weights,
    layers: Vec<Layer>,
}

impl<'a> Builder<'a> {
    pub(in crate::model) fn new(config: &'a UNetConfig, weights: &'a mut Weights) -> Self {
        Self {
            config,
            weights,
            layers: Vec::new(),
        }
    }

    pub(in crate::model) fn build(mut self) -> Result<Vec<Layer>> {
        let levels = &self.config.levels;
        // Widths kept for the way up, in the order of keeping: the output of conv_in first.
        let mut kept = vec![levels[0].width];
        self.layers.push(Layer::Push);
        for (i, level) in levels.iter().enumerate() {
            let name = format!("down_blocks.{i}");
            for j in 0..level.layers {
                let from = kept.last().copied().unwrap_or(level.width);
                self.resnet(&format!("{name}.resnets.{j}"), from, level.width)?;
                if level.attends_down {
                    self.transformer(&format!("{name}.attentions.{j}"), level)?;
                }
                self.layers.push(Layer::Push);
                kept.push(level.width);
            }
            if i + 1 < levels.len() {
                let shape = ConvShape {
                    from: level.width,
                    to: level.width,
                    k: 3,
                    stride: 2,
                    padding: 1,
                };
                self.layers.push(Layer::Downsample(
                    self.weights
                        .conv(&format!("{name}.downsamplers.0.conv"), shape)?,
                ));
                self.layers.push(Layer::Push);
                kept.push(level.width);
            }
        }
        let deepest = &levels[levels.len() - 1];
        if self.config.middle {
            self.resnet("mid_block.resnets.0", deepest.width, deepest.width)?;
            self.transformer("mid_block.attentions.0", deepest)?;
            self.resnet("mid_block.resnets.1", deepest.width, deepest.width)?;
        }
        let mut from = deepest.width;
        for (i, level) in levels.iter().rev().enumerate() {
            let name = format!("up_blocks.{i}");
            for j in 0..=level.layers {
                let skip = kept
                    .pop()
                    .unwrap_or_else(|| unreachable!("the way up has as many layers as were kept"));
                self.layers.push(Layer::Pop);
                self.resnet(&format!("{name}.resnets.{j}"), from + skip, level.width)?;
                if level.attends_up {
                    self.transformer(&format!("{name}.attentions.{j}"), level)?;
                }
                from = level.width;
            }
            if i + 1 < levels.len() {
                let upsample =
                    Upsample::load(self.weights, &format!("{name}.upsamplers.0"), level.width)?;
                self.layers.push(Layer::Upsample(upsample));
            }
        }
        Ok(self.layers)
    }

    fn resnet(&mut self, name: &str, from: usize, to: usize) -> Result<()> {
        let UNetConfig {
            groups, epsilon, ..
        } = *self.config;
        let shape = ResnetShape {
            from,
            to,
            time: Some(self.config.time),
            groups,
            epsilon,
        };
        self.layers.push(Layer::Resnet(Box::new(Resnet::load(
            self.weights,
            name,
            shape,
        )?)));
        Ok(())
    }

    fn transformer(&mut self, name: &str, level: &Level) -> Result<()> {
        let shape = TransformerShape {
            width: level.width,
            context: self.config.context,
            heads: level.heads,
            depth: level.depth,
            groups: self.config.groups,
        };
        self.layers
            .push(Layer::Transformer(Box::new(Transformer::load(
                self.weights,
                name,
                shape,
            )?)));
        Ok(())
    }
}

//! DenseNet under timm's names; its variable names equal torchvision's.

use super::build::Build;
use crate::model::{body::Children, densenet};
use serde::Deserialize;

/// The options of the family, with timm's names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::model) struct Config {
    growth_rate: i64,
    block_config: [usize; 4],
}

impl Default for Config {
    fn default() -> Self {
        Self { growth_rate: 32, block_config: [6, 12, 24, 16] }
    }
}

impl Config {
    pub(super) fn children(&self, net: &mut Children<'_>, build: Build) {
        let stem = 2 * self.growth_rate;
        let (growth, blocks) = (self.growth_rate, self.block_config);
        let drop = build.drop.unwrap_or(0.0);
        let shape = densenet::Shape { growth, blocks, stem, drop };
        densenet::children(net, build.n_in, shape, build.n_out);
    }
}

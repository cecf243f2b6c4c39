//! Rotary position embeddings.
//!
//! Su et al., [RoFormer](https://arxiv.org/abs/2104.09864); Heo et al.,
//! [Rotary Position Embedding for Vision Transformer](https://arxiv.org/abs/2403.13298).

use super::constant::Constant;
use serde::Deserialize;
use std::f64::consts::TAU;
use tch::{Kind, Tensor};

/// The angles of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Angles {
    /// Row and column times fixed frequencies.
    #[serde(rename = "cat")]
    Fixed,
    /// As `Fixed`, with rows and columns scaled to -1…1.
    #[serde(rename = "dinov3")]
    Centered,
    /// Row and column times learned frequencies per head.
    Mixed,
}

/// The order of rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Indexing {
    /// Rows, then columns.
    Ij,
    /// Columns, then rows.
    Xy,
}

/// The positions of patches, from which angles are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// The numbers of rows and columns.
    pub(super) size: [i64; 2],
    /// The numbers of rows and columns to which positions are scaled.
    pub(super) reference: Option<[i64; 2]>,
    /// The number that is added to each row and column.
    pub(super) offset: f64,
    /// The order of rows and columns.
    pub(super) indexing: Indexing,
    /// If true, positions are scaled to -1…1.
    pub(super) centered: bool,
}

impl Grid {
    /// Returns the two coordinates of each position, `[places]` each, in the order of [`Indexing`].
    pub(super) fn coordinates(&self) -> [Tensor; 2] {
        let axis = |i: usize| {
            let n = self.size[i];
            let value = |at: i64| {
                if self.centered {
                    2.0 * ((at as f64 + 0.5 + self.offset) / n as f64) - 1.0
                } else {
                    let at = at as f64 + self.offset;
                    self.reference.map_or(at, |to| at / n as f64 * to[i] as f64)
                }
            };
            (0..n).map(value).collect::<Vec<f64>>()
        };
        let (rows, columns) = (axis(0), axis(1));
        let (mut down, mut right) = (vec![], vec![]);
        for row in &rows {
            for column in &columns {
                down.push(*row as f32);
                right.push(*column as f32);
            }
        }
        let both = [Tensor::from_slice(&down), Tensor::from_slice(&right)];
        match self.indexing {
            Indexing::Ij => both,
            Indexing::Xy => {
                let [down, right] = both;
                [right, down]
            }
        }
    }
}

/// Doubles the last dimension: each value twice in a row, or the whole twice.
fn doubled(x: &Tensor, half: bool) -> Tensor {
    if half { Tensor::cat(&[x, x], -1) } else { x.repeat_interleave_self_int(2, -1, None) }
}

/// Rotates pairs of features of queries and keys by the angles of their positions.
#[derive(Debug)]
pub(super) enum Rotary {
    /// The sines and cosines of fixed angles.
    Fixed {
        /// `[places, features]`.
        sin: Constant,
        /// `[places, features]`.
        cos: Constant,
        /// If true, the features of a pair are half the features apart, otherwise adjacent.
        half: bool,
    },
    /// Angles from learned frequencies: `[2, depth, heads, features / 2]`.
    Mixed {
        /// The frequencies of all blocks.
        freqs: Tensor,
        /// The index of this block.
        block: i64,
        /// The coordinates for the first half of `freqs`.
        first: Constant,
        /// The coordinates for the second half.
        second: Constant,
    },
}

impl Rotary {
    /// Creates fixed angles for heads of `features`.
    pub(super) fn fixed(grid: &Grid, features: i64, temperature: f64, half: bool) -> Self {
        let bands = features / 4;
        let band = |i: i64| {
            let turn = if grid.centered { TAU } else { 1.0 };
            (turn / temperature.powf(i as f64 / bands as f64)) as f32
        };
        let frequencies: Vec<f32> = (0..bands).map(band).collect();
        let frequencies = Tensor::from_slice(&frequencies);
        let angles = grid.coordinates().map(|at| at.unsqueeze(1) * &frequencies);
        let angles = Tensor::cat(&angles, 1);
        Self::Fixed {
            sin: Constant::new(doubled(&angles.sin(), half)),
            cos: Constant::new(doubled(&angles.cos(), half)),
            half,
        }
    }

    /// Creates the angles of block `block` from learned frequencies.
    pub(super) fn mixed(grid: &Grid, freqs: Tensor, block: i64) -> Self {
        let [first, second] = grid.coordinates().map(Constant::new);
        Self::Mixed { freqs, block, first, second }
    }

    /// Rotates the tokens after the first `skipped` of `[N, heads, tokens, features]`.
    pub(super) fn turn(&self, x: &Tensor, skipped: i64) -> Tensor {
        let device = x.device();
        let (sin, cos, half) = match self {
            Self::Fixed { sin, cos, half } => (sin.on(device), cos.on(device), *half),
            Self::Mixed { freqs, block, first, second } => {
                let part = |i: i64, at: &Constant| {
                    let freqs = freqs.select(0, i).select(0, *block).to_kind(Kind::Float);
                    at.on(device).unsqueeze(1) * freqs.unsqueeze(1)
                };
                let angles = part(0, first) + part(1, second);
                (doubled(&angles.sin(), false), doubled(&angles.cos(), false), false)
            }
        };
        let tokens = x.size()[2] - skipped;
        let turned = x.narrow(2, skipped, tokens);
        let across = if half {
            let halves = turned.chunk(2, -1);
            Tensor::cat(&[-&halves[1], halves[0].shallow_clone()], -1)
        } else {
            let pairs = turned.unflatten(-1, [-1, 2]);
            let swapped = [-pairs.select(-1, 1), pairs.select(-1, 0)];
            Tensor::stack(&swapped, -1).flatten(-2, -1)
        };
        let turned = (turned * cos + across * sin).to_kind(x.kind());
        if skipped == 0 { turned } else { Tensor::cat(&[x.narrow(2, 0, skipped), turned], 2) }
    }
}

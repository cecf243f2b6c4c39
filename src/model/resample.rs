//! Resamples learned positions to another image size.

use crate::error::{Error, Result};
use tch::{Kind, Tensor};

/// The number of rows and columns of positions: of the weights in a file, and of the network. `None` if they are not
/// known; then they are taken to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) file: Option<[i64; 2]>,
    pub(super) network: Option<[i64; 2]>,
}

impl Sides {
    fn differ(&self) -> bool {
        self.file.is_some() && self.file != self.network
    }
}

/// Resamples `given` to the `shape` of a variable called `name`, for the variables that timm resamples:
/// position embeddings, tables of relative positions and patch embeddings. Others are returned unchanged.
/// `patches` is the number of patches along the height and width of the image, and `window` the height and width of
/// the window whose relative positions the variable holds.
pub(super) fn fitted(
    name: &str,
    given: Tensor,
    shape: &[i64],
    patches: Sides,
    window: Sides,
) -> Result<Tensor> {
    let own = name.rsplit_once('.').map_or(name, |(_, own)| own);
    let size = given.size();
    let equal = size == shape;
    match own {
        "pos_embed" | "pos_embedding" if size.len() == 3 && size[2] == shape[2] => {
            if equal && !patches.differ() { Ok(given) } else { positions(&given, shape, patches) }
        }
        "relative_position_bias_table" if size.len() == 2 && size[1] == shape[1] => {
            if equal && !window.differ() { Ok(given) } else { relative(&given, shape, window) }
        }
        "attention_biases" if !equal && size.len() == 2 && size[0] == shape[0] => {
            biases(&given, shape)
        }
        _ => Ok(given),
    }
}

fn root(n: i64) -> Option<i64> {
    let root = (n as f64).sqrt().round() as i64;
    (root * root == n && root > 0).then_some(root)
}

/// Resamples position embeddings, `[1, tokens, features]`, whose first tokens may belong to no patch, by bicubic
/// interpolation with anti-aliasing.
fn positions(given: &Tensor, shape: &[i64], patches: Sides) -> Result<Tensor> {
    let (old, new, dim) = (given.size()[1], shape[1], shape[2]);
    let square = |n: i64| root(n).map(|side| [side, side]);
    let grid = patches.network.or_else(|| (0..16).find_map(|prefix| square(new - prefix)));
    let grid = grid.filter(|[h, w]| h * w <= new);
    let found = grid.and_then(|[h, w]| {
        let prefix = new - h * w;
        let before = patches.file.filter(|[h, w]| h * w == old - prefix);
        Some((prefix, before.or_else(|| square(old - prefix))?, [h, w]))
    });
    let Some((prefix, [rows, columns], [height, width])) = found else {
        let why = format!(
            "{old} position embeddings cannot be resampled to {new}: they are not a square"
        );
        return Err(Error::mismatch("weights", why));
    };
    let first = given.f_narrow(1, 0, prefix)?;
    let rest = given.f_narrow(1, prefix, old - prefix)?.f_to_kind(Kind::Float)?;
    let map = rest.f_reshape([1, rows, columns, dim])?.f_permute([0, 3, 1, 2])?;
    let map = map.f_internal_upsample_bicubic2d_aa([height, width], false, None, None)?;
    let rest = map.f_permute([0, 2, 3, 1])?.f_reshape([1, -1, dim])?.f_to_kind(given.kind())?;
    Ok(Tensor::f_cat(&[first, rest], 1)?)
}

/// Resamples biases of absolute offsets, `[heads, offsets]`, as a square map, by bicubic interpolation with
/// anti-aliasing.
fn biases(given: &Tensor, shape: &[i64]) -> Result<Tensor> {
    let (Some(old), Some(new)) = (root(given.size()[1]), root(shape[1])) else {
        return Ok(given.shallow_clone());
    };
    let map = given.f_to_kind(Kind::Float)?.f_view([1, shape[0], old, old])?;
    let map = map.f_internal_upsample_bicubic2d_aa([new, new], false, None, None)?;
    Ok(map.f_view(shape)?.f_to_kind(given.kind())?)
}

/// Resamples tables of relative positions, `[offsets, heads]`, by linear interpolation between geometrically
/// growing offsets, as timm does, based on BEiT's code. BEiT itself, and timm with `TIMM_USE_SCIPY_INTERP`, use
/// splines.
///
/// A window that is not known is taken to be a square.
fn relative(given: &Tensor, shape: &[i64], window: Sides) -> Result<Tensor> {
    let heads = shape[1];
    let offsets = |window: Option<[i64; 2]>, n: i64| {
        let sides = window.map(|window| window.map(|side| 2 * side - 1));
        let sides = sides.filter(|[height, width]| height * width == n);
        sides.or_else(|| root(n).map(|side| [side, side]))
    };
    let (old, new) = (given.size()[0], shape[0]);
    let (Some([rows, columns]), Some([height, width])) =
        (offsets(window.file, old), offsets(window.network, new))
    else {
        let why = format!("a table of {old} relative positions cannot be resampled to {new}");
        return Err(Error::mismatch("weights", why));
    };
    let matrix = |old: i64, new: i64| {
        let middle = (new / 2) as f64;
        let places: Vec<f64> = (0..new).map(|i| i as f64 - middle).collect();
        linear_matrix(&knots(old, new), &places)
    };
    let map =
        given.f_to_kind(Kind::Double)?.f_transpose(0, 1)?.f_reshape([heads, rows, columns])?;
    // The left matrix interpolates along the height, the right one along the width.
    let map = matrix(rows, height)?.f_matmul(&map)?;
    let map = map.f_matmul(&matrix(columns, width)?.f_transpose(0, 1)?)?;
    Ok(map.f_reshape([heads, -1])?.f_transpose(0, 1)?.f_to_kind(given.kind())?.f_contiguous()?)
}

/// Returns the positions of the old offsets among the new ones: 0 in the middle, with steps that grow by a
/// constant factor.
fn knots(old: i64, new: i64) -> Vec<f64> {
    let (half, wanted) = ((old / 2) as i32, (new / 2) as f64);
    let (mut left, mut right) = (1.01, 1.5);
    let mut factor = 0.0;
    while right - left > 1e-6 {
        factor = (left + right) / 2.0;
        let sum = (1.0 - f64::powi(factor, half)) / (1.0 - factor);
        if sum > wanted {
            right = factor;
        } else {
            left = factor;
        }
    }
    let (mut distances, mut at) = (vec![], 1.0);
    for i in 0..half {
        distances.push(at);
        at += factor.powi(i + 1);
    }
    let before = distances.iter().rev().map(|d| -d);
    before.chain([0.0]).chain(distances.iter().copied()).collect()
}

/// Returns the matrix of a linear interpolation from values at `knots` to values at `places`. Before the first and
/// after the last knot, the function is constant.
fn linear_matrix(knots: &[f64], places: &[f64]) -> Result<Tensor> {
    let n = knots.len();
    let mut rows = vec![0.0; n * places.len()];
    for (row, place) in rows.chunks_exact_mut(n).zip(places) {
        let right = knots.partition_point(|knot| knot < place).min(n - 1);
        let left = right.saturating_sub(1);
        let (before, after) = (place - knots[left], knots[right] - place);
        if before <= 0.0 || after <= 0.0 {
            row[if after <= 0.0 { right } else { left }] = 1.0;
        } else {
            row[left] = after / (before + after);
            row[right] = before / (before + after);
        }
    }
    Ok(Tensor::f_from_slice(&rows)?.f_view([places.len() as i64, n as i64])?)
}

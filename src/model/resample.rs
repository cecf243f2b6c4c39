//! Resamples learned positions to another image size.

use crate::error::{Error, Result};
use tch::{Kind, Tensor};

/// Resamples `given` to the `shape` of a variable called `name`, for the variables that timm resamples:
/// position embeddings, tables of relative positions and patch embeddings. Others are returned unchanged.
/// `grid` is the number of patches along the height and width of the image, and `window` the height and width of
/// the window whose relative positions the variable holds, if they are known.
pub(super) fn fitted(
    name: &str,
    given: Tensor,
    shape: &[i64],
    grid: Option<[i64; 2]>,
    window: Option<[i64; 2]>,
) -> Result<Tensor> {
    let own = name.rsplit_once('.').map_or(name, |(_, own)| own);
    let size = given.size();
    if size == shape {
        return Ok(given);
    }
    match own {
        "pos_embed" | "pos_embedding" if size.len() == 3 && size[2] == shape[2] => {
            positions(&given, shape, grid)
        }
        "relative_position_bias_table" if size.len() == 2 && size[1] == shape[1] => {
            relative(&given, shape, window)
        }
        "attention_biases" if size.len() == 2 && size[0] == shape[0] => biases(&given, shape),
        _ => Ok(given),
    }
}

fn root(n: i64) -> Option<i64> {
    let root = (n as f64).sqrt().round() as i64;
    (root * root == n && root > 0).then_some(root)
}

/// Resamples position embeddings, `[1, tokens, features]`, whose first tokens may belong to no patch, by bicubic
/// interpolation with anti-aliasing.
fn positions(given: &Tensor, shape: &[i64], grid: Option<[i64; 2]>) -> Result<Tensor> {
    let (old, new, dim) = (given.size()[1], shape[1], shape[2]);
    let grid = grid.or_else(|| {
        let side = (0..16).find_map(|prefix| root(new - prefix))?;
        Some([side, side])
    });
    let grid = grid.filter(|[h, w]| h * w <= new);
    let found = grid.and_then(|[h, w]| {
        let prefix = new - h * w;
        Some((prefix, root(old - prefix)?, [h, w]))
    });
    let Some((prefix, side, [height, width])) = found else {
        let why = format!(
            "{old} position embeddings cannot be resampled to {new}: they are not a square"
        );
        return Err(Error::mismatch("weights", why));
    };
    let first = given.f_narrow(1, 0, prefix)?;
    let rest = given.f_narrow(1, prefix, old - prefix)?.f_to_kind(Kind::Float)?;
    let map = rest.f_reshape([1, side, side, dim])?.f_permute([0, 3, 1, 2])?;
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
/// `given` belongs to a square window. The result belongs to `window`, or to a square one if that is unknown.
fn relative(given: &Tensor, shape: &[i64], window: Option<[i64; 2]>) -> Result<Tensor> {
    let heads = shape[1];
    let sides = window.map(|window| window.map(|n| 2 * n - 1));
    let sides = sides.or_else(|| root(shape[0]).map(|n| [n, n]));
    let sides = sides.filter(|[height, width]| height * width == shape[0]);
    let (Some(old), Some([height, width])) = (root(given.size()[0]), sides) else {
        let (old, new) = (given.size()[0], shape[0]);
        let why = format!("a table of {old} relative positions cannot be resampled to {new}");
        return Err(Error::mismatch("weights", why));
    };
    let matrix = |new: i64| {
        let middle = (new / 2) as f64;
        let places: Vec<f64> = (0..new).map(|i| i as f64 - middle).collect();
        linear_matrix(&knots(old, new), &places)
    };
    let map = given.f_to_kind(Kind::Double)?.f_transpose(0, 1)?.f_reshape([heads, old, old])?;
    // The left matrix interpolates along the height, the right one along the width.
    let map = matrix(height)?.f_matmul(&map)?.f_matmul(&matrix(width)?.f_transpose(0, 1)?)?;
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

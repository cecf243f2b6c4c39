//! Filters for upsampling without a checkerboard.

use crate::{
    error::{Error, Result},
    sys::caught,
};
use tch::{Device, Kind, Tensor};

/// Draws filters in groups of `scale²` equal ones, so that a pixel shuffle of their outputs initially
/// equals nearest-pixel upsampling, without a checkerboard pattern. Drawn from libtorch's generator with
/// He's normal initialization. `shape` is `[O, I, H, W]`.
///
/// Aitken et al., [Checkerboard artifact free sub-pixel convolution](https://arxiv.org/abs/1707.02937);
/// fastai's `icnr_init`.
///
/// # Errors
/// [`Error::Config`] if `scale` or a size is not positive, or `O` is not a multiple of `scale²`;
/// errors of libtorch, for example for lack of memory.
///
/// ```
/// use finetune::model::icnr;
///
/// let filters = icnr(&[8, 3, 1, 1], 2)?;
/// assert_eq!(filters.get(0), filters.get(3));
/// # Ok::<(), finetune::Error>(())
/// ```
pub fn icnr(shape: &[i64; 4], scale: i64) -> Result<Tensor> {
    let square = scale.checked_mul(scale).filter(|_| scale > 0);
    if square.is_none_or(|square| shape[0] % square != 0) || shape.iter().any(|n| *n < 1) {
        let why = format!(
            "cannot make filters of shape {shape:?} for scale {scale}: all numbers must be positive, and \
             the first size a multiple of the scale's square"
        );
        return Err(Error::config("icnr", why));
    }
    caught(|| Ok(draw(shape, scale)))
}

/// Draws the filters of [`icnr`] for valid arguments.
pub(super) fn draw(shape: &[i64; 4], scale: i64) -> Tensor {
    let [c_out, c_in, h, w] = *shape;
    let area = scale * scale;
    let mut kernel = Tensor::zeros([c_out / area, c_in, h, w], (Kind::Float, Device::Cpu));
    let stdev = (2.0 / (c_in as f64 * h as f64 * w as f64)).sqrt();
    let _ = kernel.normal_(0.0, stdev);
    kernel.repeat_interleave_self_int(area, 0, c_out / area * area)
}

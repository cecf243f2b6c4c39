//! The input of a network.

use crate::failure::failed;
use finetune_image::{
    Result,
    card::NetworkInput,
    ndarray::{Array, Array4, ArrayD, Dimension},
    preparation::Prepared,
};

/// The input of a [`Network`](crate::Network): an array of any number of axes, whose first axis counts the
/// images. Arrays of `f32` and `u8` convert to it.
///
/// ```
/// use finetune_predict::{Input, ndarray::Array4};
///
/// let images = Array4::<f32>::zeros((2, 3, 224, 224)); // [N, C, H, W]
/// assert_eq!(Input::from(images).shape(), [2, 3, 224, 224]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// 32-bit floats, for images `[N, C, H, W]` after all transforms.
    Floats(ArrayD<f32>),
    /// Bytes, for images `[N, H, W, C]` after the item transforms.
    Bytes(ArrayD<u8>),
}

impl<D: Dimension> From<Array<f32, D>> for Input {
    fn from(array: Array<f32, D>) -> Self {
        Self::Floats(array.into_dyn())
    }
}

impl<D: Dimension> From<Array<u8, D>> for Input {
    fn from(array: Array<u8, D>) -> Self {
        Self::Bytes(array.into_dyn())
    }
}

impl Input {
    /// Returns the input of a network of the given kind for prepared images: all transforms are applied for
    /// [`NetworkInput::Prepared`], the item transforms for [`NetworkInput::Pixels`].
    ///
    /// [`ModelCard::preparation`](crate::ModelCard::preparation) prepares images. [`Predictor`](crate::Predictor)
    /// does both and decodes the outputs.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) if a batch transform is a closure over tensors.
    pub fn prepared(images: Prepared, kind: NetworkInput) -> Result<Self> {
        let n = images.placements.len();
        let channels = usize::from(images.plan.channels());
        let array = match kind {
            NetworkInput::Pixels => {
                let (width, height) = images.plan.input_size();
                let shape = (n, height as usize, width as usize, channels);
                Array4::from_shape_vec(shape, images.pixels).map(Self::from)
            }
            _ => {
                let (floats, (width, height)) = images.floats()?;
                drop(images);
                let (height, width) = (height as usize, width as usize);
                let planes = planes(&floats, height * width, channels);
                Array4::from_shape_vec((n, channels, height, width), planes).map(Self::from)
            }
        };
        array.map_err(|e| failed(e.to_string()))
    }

    /// Returns the length of each axis, the number of images first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(array) => array.shape(),
            Self::Bytes(array) => array.shape(),
        }
    }
}

/// Reorders images `[N, H, W, C]` with `area` pixels each to `[N, C, H, W]`.
fn planes(pixels: &[f32], area: usize, channels: usize) -> Vec<f32> {
    let each = (area * channels).max(1);
    let mut all = vec![0.0; pixels.len()];
    for (planes, pixels) in all.chunks_exact_mut(each).zip(pixels.chunks_exact(each)) {
        for (c, plane) in planes.chunks_exact_mut(area).enumerate() {
            for (to, pixel) in plane.iter_mut().zip(pixels.chunks_exact(channels)) {
                *to = pixel[c];
            }
        }
    }
    all
}

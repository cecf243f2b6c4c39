//! Samples, targets, batches, and the task of a data set.

mod decoded;

pub use finetune_image::sample::{BBox, Placement, Point, Sample, Split, Target, Task};

pub(crate) use decoded::spatial_targets;

use tch::Tensor;

/// A batch on its device.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The inputs, `[N, C, H, W]` (channels-last in memory if that is faster).
    pub x: Tensor,
    /// The targets: `i64` `[N]` for categories, `f32` `[N, C]` for several categories, `f32` `[N, n]` for
    /// values (`[N]` if n is 1), `i64` `[N, H, W]` for masks, `f32` `[N, K, 2]` for points and `[N, M, 4]`
    /// for boxes, both from -1 to 1 within the image. `None` for items without labels.
    pub y: Option<Tensor>,
    /// The classes of boxes, `i64` `[N, M]`; `None` for other targets.
    pub labels: Option<Tensor>,
    /// The indices of the items in their data set, so that a loss can be traced to a file.
    pub items: Vec<usize>,
    /// The position of each image of `x` in its original, if known. Empty for inputs that are not images.
    pub placements: Vec<Option<Placement>>,
}

impl Batch {
    /// Creates a batch from inputs, targets and the indices of the items in their data set.
    #[must_use]
    pub fn new(x: Tensor, y: Option<Tensor>, items: Vec<usize>) -> Self {
        Self { x, y, labels: None, items, placements: vec![] }
    }
}

//! Masks, points and boxes, moved by a plan together with the images.

use super::{ImagePlan, Matrix, Mode, Plan, sampling::Sampling};
use crate::{
    error::{Error, Result},
    image::Image,
    sample::{BBox, Placement, Point},
};

/// Returns the smallest axis-aligned box around a transformed box.
pub(super) fn around(b: BBox, to: &impl Fn(f32, f32) -> (f32, f32)) -> BBox {
    let corners = [(b.left, b.top), (b.left, b.bottom), (b.right, b.top), (b.right, b.bottom)];
    let moved = corners.map(|(x, y)| to(x, y));
    let least = |of: fn(&(f32, f32)) -> f32| moved.iter().map(of).fold(f32::INFINITY, f32::min);
    let most = |of: fn(&(f32, f32)) -> f32| moved.iter().map(of).fold(f32::NEG_INFINITY, f32::max);
    let corners = [least(|c| c.0), least(|c| c.1), most(|c| c.0), most(|c| c.1)];
    BBox::new(corners, b.class)
}

/// Clips boxes to an image of `size` (width, height), and removes those that are empty afterwards.
/// Corresponds to fastai's `clip_remove_empty`.
///
/// ```
/// use finetune::{sample::BBox, transform::clip_boxes};
///
/// let boxes = vec![BBox::new([-5.0, 2.0, 10.0, 8.0], 0), BBox::new([40.0, 2.0, 45.0, 8.0], 1)];
/// assert_eq!(clip_boxes(boxes, (30, 20)), [BBox::new([0.0, 2.0, 10.0, 8.0], 0)]);
/// ```
#[must_use]
pub fn clip_boxes(boxes: Vec<BBox>, (width, height): (u32, u32)) -> Vec<BBox> {
    let (w, h) = (width as f32, height as f32);
    let clipped = |b: BBox| {
        let corners = [
            b.left.clamp(0.0, w),
            b.top.clamp(0.0, h),
            b.right.clamp(0.0, w),
            b.bottom.clamp(0.0, h),
        ];
        BBox::new(corners, b.class)
    };
    let all = boxes.into_iter().map(clipped);
    all.filter(|b| b.right > b.left && b.bottom > b.top).collect()
}

/// Returns the map from positions on a side of `n` pixels to -1..1 at its edges, as (scale, shift).
fn to_edges(n: u32) -> (f64, f64) {
    (2.0 / f64::from(n), -1.0)
}

/// Returns the inverse of [`to_edges`].
fn from_edges(n: u32) -> (f64, f64) {
    let half = f64::from(n) / 2.0;
    (half, half)
}

impl Plan {
    /// Returns the map from positions in the output of this pass to positions in its input, in pixels of
    /// image `i`.
    ///
    /// For points, -1 and 1 are the edges of an image, as in fastai. For pixels, they are the centers of
    /// the outer pixels if `align_corners` is set.
    fn pass_map(&self, image: &ImagePlan) -> Matrix {
        let between = self.size.unwrap_or(self.input);
        let out = self.output_size();
        let to_between = match self.crop {
            Some(crop) => {
                let part = crop.part;
                let scale = |part: u32, n: u32| f64::from(part) / f64::from(n);
                Matrix::stretch(
                    (scale(part.width, out.0), f64::from(part.left)),
                    (scale(part.height, out.1), f64::from(part.top)),
                )
            }
            None => Matrix::ONE,
        };
        let to_unit = Matrix::stretch(to_edges(between.0), to_edges(between.1));
        let to_input = Matrix::stretch(from_edges(self.input.0), from_edges(self.input.1));
        let map = image.warp.times(&image.affine.with_aspect(self.input));
        to_input.times(&map).times(&to_unit).times(&to_between)
    }

    /// Returns the map from positions in the output of the last pass to positions in the input of the
    /// first, in pixels.
    fn whole_map(&self, i: usize) -> Matrix {
        self.passes().fold(Matrix::ONE, |map, pass| match pass.images.get(i) {
            Some(image) => map.times(&pass.pass_map(image)),
            None => map,
        })
    }

    fn moves(&self, i: usize) -> impl Fn(f32, f32) -> (f32, f32) + use<> {
        // Each map is inverted separately: the inverse of their product would be less precise.
        let maps: Vec<Matrix> = self
            .passes()
            .filter_map(|pass| pass.images.get(i).map(|image| pass.pass_map(image).inverse()))
            .collect();
        move |x, y| {
            let start = (f64::from(x), f64::from(y));
            let (x, y) = maps.iter().fold(start, |(x, y), map| map.at(x, y));
            (x as f32, y as f32)
        }
    }

    /// Moves points of image `i` with its pixels: from pixels of the first pass's input to pixels of the
    /// last pass's output. Points may move out of the image.
    pub fn move_points(&self, i: usize, points: &mut [Point]) {
        let to = self.moves(i);
        for point in points {
            (point.x, point.y) = to(point.x, point.y);
        }
    }

    /// Moves boxes of image `i` with its pixels, in the units of [`move_points`](Self::move_points). The
    /// result is the smallest axis-aligned box around the moved corners. If a pass crops the images,
    /// boxes are clipped to the output and empty ones removed. Rotations and perspectives alone do not
    /// clip boxes, as in fastai.
    #[must_use]
    pub fn move_boxes(&self, i: usize, boxes: Vec<BBox>) -> Vec<BBox> {
        let to = self.moves(i);
        let moved = boxes.into_iter().map(|b| around(b, &to)).collect();
        if self.passes().any(|pass| pass.crop.is_some()) {
            clip_boxes(moved, self.size_so_far())
        } else {
            moved
        }
    }

    /// Returns the placement of the output of image `i`, if its input has `placement`.
    #[must_use]
    pub fn placement(&self, i: usize, placement: &Placement) -> Placement {
        placement.then(self.size_so_far(), self.whole_map(i).0)
    }

    /// Returns the plan for the masks of the images: it moves pixels as this plan does, by the nearest
    /// pixel, and makes no other changes.
    #[must_use]
    pub fn for_masks(&self) -> MaskPlan {
        let pass = |pass: &Self| {
            let mut plan = pass.first_pass();
            for image in &mut plan.images {
                image.colors.clear();
            }
            if let Some(resampling) = &mut plan.resampling {
                resampling.mode = Mode::Nearest;
            }
            if let Some(crop) = &mut plan.crop {
                crop.mode = Mode::Nearest;
            }
            plan.channels = 1;
            // Scales values between 0 and 1 back to codes.
            plan.normalize = Some((vec![0.0], vec![1.0 / 255.0]));
            plan.erased.clear();
            plan.steps.clear();
            plan
        };
        let moves = |plan: &Self| Sampling::new(plan).is_some();
        MaskPlan { passes: self.passes().map(pass).filter(moves).collect() }
    }
}

/// The changes of the masks of a batch; see [`Plan::for_masks`].
#[derive(Debug, Clone)]
pub struct MaskPlan {
    /// The passes that move pixels.
    pub(super) passes: Vec<Plan>,
}

impl MaskPlan {
    /// Moves the mask of image `i` with the image.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the mask does not have one channel and the size of the images.
    pub fn execute(&self, i: usize, mask: &Image) -> Result<Image> {
        let Some((first, rest)) = self.passes.split_first() else { return Ok(mask.clone()) };
        let moved = |plan: &Plan, mask: &Image| {
            let (w, h) = plan.output_size();
            if (mask.width(), mask.height()) != plan.input || mask.channels() != 1 {
                let (iw, ih) = plan.input;
                let why =
                    format!("the mask is {mask:?}; it must have one channel of {iw}x{ih} pixels");
                return Err(Error::mismatch("mask", why));
            }
            let mut codes = vec![0.0_f32; w as usize * h as usize];
            plan.execute_image(i, mask.pixels(), &mut codes)?;
            Image::new(w, h, 1, codes.into_iter().map(|c| c.round() as u8).collect())
        };
        rest.iter().try_fold(moved(first, mask)?, |mask, plan| moved(plan, &mask))
    }
}

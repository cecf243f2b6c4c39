//! The geometry of item transforms as data, so that masks, points and boxes move with the image.

use super::targets::around;
use crate::{
    error::{Error, Result},
    image::{Filter, Image, PadMode, Turn},
    sample::{Sample, Target},
};

/// One step of the geometry of an item transform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Motion {
    /// Resizes a part to `size` (width, height). The part may extend beyond the image.
    Cut { left: i64, top: i64, width: u32, height: u32, pad: PadMode, size: (u32, u32) },
    /// Flips the image, or rotates it by a multiple of 90°.
    Turn(Turn),
}

impl Motion {
    /// Returns the step that resizes the whole image.
    pub(super) fn resize((width, height): (u32, u32), size: (u32, u32)) -> Self {
        Self::Cut { left: 0, top: 0, width, height, pad: PadMode::Zeros, size }
    }

    /// Returns the step that crops a part without resizing.
    pub(super) fn part((left, top): (i64, i64), (width, height): (u32, u32), pad: PadMode) -> Self {
        Self::Cut { left, top, width, height, pad, size: (width, height) }
    }

    /// Applies the step to an image.
    pub(super) fn image(&self, image: &Image, filter: Filter) -> Result<Image> {
        let Self::Cut { left, top, width, height, pad, size } = *self else {
            return Ok(match self {
                Self::Turn(turn) => image.turned(*turn),
                Self::Cut { .. } => image.clone(),
            });
        };
        let within =
            |start: i64, n: u32, all: u32| start >= 0 && start + i64::from(n) <= all.into();
        if within(left, width, image.width()) && within(top, height, image.height()) {
            return image.resized_part((left as u32, top as u32, width, height), size, filter);
        }
        image.resized_area((left, top), (width, height), pad, size, filter)
    }

    /// Returns the width and height of the result for an image of `size`.
    pub(super) fn size(&self, (width, height): (u32, u32)) -> (u32, u32) {
        match self {
            Self::Cut { size, .. } => *size,
            Self::Turn(turn) if turn.swaps() => (height, width),
            Self::Turn(_) => (width, height),
        }
    }

    /// Returns the map from positions in the result to positions in an image of `size`, in pixels.
    fn to_source(self, (width, height): (u32, u32)) -> [[f64; 3]; 3] {
        let (w, h) = (f64::from(width), f64::from(height));
        let rows = match self {
            Self::Cut { left, top, width, height, size, .. } => {
                let x = f64::from(width) / f64::from(size.0);
                let y = f64::from(height) / f64::from(size.1);
                [[x, 0.0, left as f64], [0.0, y, top as f64]]
            }
            Self::Turn(turn) => match turn {
                Turn::FlipLeftRight => [[-1.0, 0.0, w], [0.0, 1.0, 0.0]],
                Turn::FlipTopBottom => [[1.0, 0.0, 0.0], [0.0, -1.0, h]],
                Turn::Rotate90 => [[0.0, -1.0, w], [1.0, 0.0, 0.0]],
                Turn::Rotate180 => [[-1.0, 0.0, w], [0.0, -1.0, h]],
                Turn::Rotate270 => [[0.0, 1.0, 0.0], [-1.0, 0.0, h]],
                Turn::Transpose => [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
                Turn::Transverse => [[0.0, -1.0, w], [-1.0, 0.0, h]],
            },
        };
        [rows[0], rows[1], [0.0, 0.0, 1.0]]
    }

    /// Returns the map from positions in an image of `size` to positions in the result.
    fn moves(self, size: (u32, u32)) -> impl Fn(f32, f32) -> (f32, f32) {
        let [[a, b, c], [d, e, f], _] = self.to_source(size);
        let scale = 1.0 / (a * e - b * d);
        move |x, y| {
            let (x, y) = (f64::from(x) - c, f64::from(y) - f);
            (((e * x - b * y) * scale) as f32, ((a * y - d * x) * scale) as f32)
        }
    }

    fn target(&self, target: Target, size: (u32, u32)) -> Result<Target> {
        Ok(match target {
            Target::Mask(mask) => {
                // The same part can only be cropped if image and mask have the same size.
                if (mask.width(), mask.height()) != size {
                    let (w, h) = (mask.width(), mask.height());
                    let why = format!(
                        "a mask of {w}x{h} pixels for an image of {}x{}: their sizes must be equal",
                        size.0, size.1
                    );
                    return Err(Error::mismatch("mask", why));
                }
                Target::Mask(self.image(&mask, Filter::Nearest)?)
            }
            Target::Points(mut points) => {
                let to = self.moves(size);
                for point in &mut points {
                    (point.x, point.y) = to(point.x, point.y);
                }
                Target::Points(points)
            }
            Target::Boxes(boxes) => {
                let to = self.moves(size);
                let moved = |b| around(b, &to);
                Target::Boxes(boxes.into_iter().map(moved).collect())
            }
            other => other,
        })
    }
}

/// Applies steps to a sample: the image with `filter`, its mask with the nearest pixel, its points and
/// boxes exactly.
pub(super) fn moved(mut sample: Sample, motions: &[Motion], filter: Filter) -> Result<Sample> {
    for motion in motions {
        let size = (sample.image.width(), sample.image.height());
        sample.target = motion.target(sample.target, size)?;
        let placement =
            sample.placement().map(|p| p.then(motion.size(size), motion.to_source(size)));
        sample.image = motion.image(&sample.image, filter)?;
        sample.set_placement(placement);
    }
    Ok(sample)
}

/// Applies steps to an image.
pub(super) fn moved_image(image: &Image, motions: &[Motion], filter: Filter) -> Result<Image> {
    match motions {
        [] => Ok(image.clone()),
        [first, rest @ ..] => {
            let first = first.image(image, filter)?;
            rest.iter().try_fold(first, |image, motion| motion.image(&image, filter))
        }
    }
}

//! Targets of points in each image.

use super::category::TargetBlock;
use crate::{
    error::{Error, Result},
    sample::{Point, Target, Task},
};

/// The maximum absolute value of a coordinate, in pixels.
const FARTHEST: f32 = 1e7;

/// Points in each image, such as the eyes of a face: fastai's
/// [`PointBlock`](https://docs.fast.ai/vision.data.html#pointblock).
///
/// Labels are in pixels of the decoded image, x to the right and y down. Batches contain them scaled to -1
/// for the left and upper edge of the network's input and 1 for the right and lower one, as in fastai. A
/// point that a transform moves out of the image keeps its position outside, as in fastai. Hidden points
/// are NaN in batches; [`PointMse`](crate::loss::PointMse), the default loss, ignores them.
///
/// ```no_run
/// use finetune::data::{DataBlock, ImageBlock, PointBlock};
/// use finetune::sample::Point;
///
/// struct Face { file: String, nose: (f32, f32), left_eye: Option<(f32, f32)> }
///
/// let faces: Vec<Face> = vec![];
/// let dls = DataBlock::rows(ImageBlock::rgb(), PointBlock::new(2))
///     .get_x(|face: &Face| Ok(face.file.clone()))
///     .get_y(|face| {
///         let eye = face.left_eye.map_or_else(Point::hidden, Point::from);
///         Ok(vec![face.nose.into(), eye])
///     })
///     .dataloaders_from(faces)?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PointBlock {
    n: usize,
}

impl PointBlock {
    /// Creates the block for `n` points per image, always in the same order.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n }
    }
}

impl TargetBlock for PointBlock {
    type Label = Vec<Point>;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &Vec<Point>>) -> Result<()> {
        if self.n == 0 {
            return Err(Error::config("PointBlock::new", "`n` is 0; it must be 1 or more"));
        }
        Ok(())
    }

    fn encode(&self, label: &Vec<Point>) -> Result<Target> {
        let fails = |why| Err(Error::label(format!("{label:?}"), why));
        if label.len() != self.n {
            return fails(format!(
                "there are {} points, but `PointBlock` expects {}",
                label.len(),
                self.n
            ));
        }
        let far = |v: f32| !v.is_finite() || v.abs() > FARTHEST;
        let wrong = label.iter().position(|p| p.visible && (far(p.x) || far(p.y)));
        if let Some(i) = wrong {
            return fails(format!(
                "point {i} is ({}, {}): use `Point::hidden` for a point with unknown position",
                label[i].x, label[i].y
            ));
        }
        Ok(Target::Points(label.clone()))
    }

    fn decode(&self, target: &Target) -> Option<Vec<Point>> {
        let Target::Points(points) = target else { return None };
        Some(points.clone())
    }

    fn task(&self) -> Task {
        Task::Points { n: self.n }
    }
}

//! Converts masks, points and boxes of a batch to targets.

use super::{BBox, Point, Target, Task};
use crate::{error::Result, image::Image};
use tch::{Device, Kind, Tensor};

/// Converts masks `[N, H, W]`, points `[N, 2K]` or `[N, K, 2]`, or boxes `[N, M, 4]` with their classes to
/// targets in pixels of images of `size` (width, height). Returns `None` for other tasks.
pub(crate) fn spatial_targets(
    y: &Tensor,
    labels: Option<&Tensor>,
    task: &Task,
    size: (u32, u32),
) -> Result<Option<Vec<Target>>> {
    Ok(Some(match task {
        Task::Mask { .. } => masks(y)?,
        Task::Points { .. } => {
            let points =
                |row: &[f32]| Target::Points(row.chunks_exact(2).map(point(size)).collect());
            rows(y)?.iter().map(|row| points(row)).collect()
        }
        Task::Boxes { .. } => {
            let Some(labels) = labels else {
                // The meaning of outputs for boxes depends on the model.
                return Ok(Some(vec![Target::None; y.size().first().map_or(0, |&n| n as usize)]));
            };
            let boxes = |(row, classes): (&Vec<f32>, &Vec<f32>)| {
                let one = |(b, c): (&[f32], &f32)| {
                    let (w, h) = size;
                    let corners =
                        [pixels(b[0], w), pixels(b[1], h), pixels(b[2], w), pixels(b[3], h)];
                    // Padding rows are zeros.
                    b.iter().any(|v| *v != 0.0).then(|| BBox::new(corners, *c as usize))
                };
                Target::Boxes(row.chunks_exact(4).zip(classes).filter_map(one).collect())
            };
            rows(y)?.iter().zip(&rows(labels)?).map(boxes).collect()
        }
        _ => return Ok(None),
    }))
}

/// Converts a coordinate from -1 to 1 to pixels.
fn pixels(v: f32, n: u32) -> f32 {
    (v + 1.0) * n as f32 / 2.0
}

fn point((width, height): (u32, u32)) -> impl Fn(&[f32]) -> Point {
    move |p| match p {
        [x, y] if x.is_finite() && y.is_finite() => {
            Point::new(pixels(*x, width), pixels(*y, height))
        }
        _ => Point::hidden(),
    }
}

/// Returns the values of each item.
fn rows(t: &Tensor) -> Result<Vec<Vec<f32>>> {
    let n = t.size().first().copied().unwrap_or(0);
    let t = t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    (0..n).map(|i| Ok(Vec::try_from(&t.f_get(i)?.f_reshape([-1])?)?)).collect()
}

fn masks(codes: &Tensor) -> Result<Vec<Target>> {
    let codes = codes.f_to_device(Device::Cpu)?.f_to_kind(Kind::Uint8)?;
    let (n, h, w) = codes.size3()?;
    let mask = |i: i64| {
        let pixels = Vec::try_from(&codes.f_get(i)?.f_reshape([-1])?)?;
        Ok(Target::Mask(Image::new(w as u32, h as u32, 1, pixels)?))
    };
    (0..n).map(mask).collect()
}

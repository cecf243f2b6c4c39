//! Targets as tensors.

use super::device::{bytes_on, move_to};
use crate::{
    error::{Error, Result},
    sample::{Target, Task},
    transform::MaskPlan,
};
use tch::{Device, Kind, Tensor};

/// The targets of a batch as numbers.
pub(in crate::data) enum Column {
    Classes(Vec<i64>),
    Numbers {
        data: Vec<f32>,
        width: usize,
    },
    /// Masks of codes with (width, height) pixels each.
    Masks {
        n: usize,
        codes: Vec<u8>,
        size: (u32, u32),
    },
    /// Scaled points, two numbers each.
    Points {
        data: Vec<f32>,
        n: usize,
    },
    /// Scaled boxes, four numbers each, `most` boxes per item.
    Boxes {
        n: usize,
        data: Vec<f32>,
        classes: Vec<i64>,
        most: usize,
    },
}

/// Scales to -1 at the left or upper edge of a side of `n` pixels and 1 at the opposite one, as in fastai.
fn scaled(v: f32, n: u32) -> f32 {
    v * 2.0 / n as f32 - 1.0
}

impl Column {
    /// Collects targets that match `task`; returns `None` if none has a target. `name` returns the name of
    /// the k-th item, and `size` is the width and height of the images, if there are images.
    pub(in crate::data) fn new(
        targets: &[Target],
        task: &Task,
        size: Option<(u32, u32)>,
        name: impl Fn(usize) -> String,
    ) -> Result<Option<Self>> {
        if targets.iter().all(|t| matches!(t, Target::None)) {
            return Ok(None);
        }
        let (n, width) = (targets.len(), task.n_out());
        let (sw, sh) = size.unwrap_or((2, 2));
        let most = targets.iter().map(|t| if let Target::Boxes(b) = t { b.len() } else { 0 });
        let most = most.max().unwrap_or(0);
        let mut classes = vec![];
        let mut data = vec![];
        let (mut codes, mut mask_size) = (vec![], None);
        for (k, target) in targets.iter().enumerate() {
            let fits = match (task, target) {
                (Task::Category { .. }, Target::Category(c)) => {
                    classes.push(*c as i64);
                    *c < width
                }
                (Task::Categories { .. }, Target::Categories(found)) => {
                    let start = data.len();
                    data.resize(start + width, 0.0);
                    let row = &mut data[start..];
                    found.iter().all(|&c| row.get_mut(c).map(|v| *v = 1.0).is_some())
                }
                (Task::Values { .. }, Target::Values(values)) => {
                    data.extend_from_slice(values);
                    values.len() == width
                }
                (Task::Mask { ignored, .. }, Target::Mask(mask)) => {
                    let own = (mask.width(), mask.height());
                    let same = *mask_size.get_or_insert(own) == own && mask.channels() == 1;
                    let known = |v: u8| usize::from(v) < width || *ignored == Some(v);
                    codes.extend_from_slice(mask.pixels());
                    same && mask.pixels().iter().all(|&v| known(v))
                }
                (Task::Points { n }, Target::Points(points)) => {
                    for point in points {
                        let place = [scaled(point.x, sw), scaled(point.y, sh)];
                        data.extend(if point.visible { place } else { [f32::NAN; 2] });
                    }
                    points.len() == *n
                }
                (Task::Boxes { .. }, Target::Boxes(boxes)) => {
                    let mut known = true;
                    for b in boxes {
                        data.extend([scaled(b.left, sw), scaled(b.top, sh)]);
                        data.extend([scaled(b.right, sw), scaled(b.bottom, sh)]);
                        classes.push(b.class as i64);
                        known &= b.class < width.max(1);
                    }
                    data.resize((k + 1) * most * 4, 0.0);
                    classes.resize((k + 1) * most, 0);
                    known
                }
                _ => false,
            };
            if !fits {
                let what = match target {
                    Target::None => "no target".to_owned(),
                    other => format!("{other:?}"),
                };
                let why = format!("{what} does not match the task with {width} outputs");
                return Err(Error::label(name(k), why));
            }
        }
        Ok(Some(match task {
            Task::Category { .. } => Self::Classes(classes),
            // One number per item makes a plain list.
            Task::Values { n: 1 } => Self::Numbers { data, width: 0 },
            Task::Categories { .. } | Task::Values { .. } => Self::Numbers { data, width },
            Task::Mask { .. } => Self::Masks { n, codes, size: mask_size.unwrap_or((0, 0)) },
            Task::Points { n } => Self::Points { data, n: *n },
            Task::Boxes { .. } => Self::Boxes { n, data, classes, most },
            other => {
                return Err(Error::unsupported("targets", format!("no batches of {other:?}")));
            }
        }))
    }

    /// Converts to tensors: the targets and, for boxes, their classes. `masks` transforms masks that have
    /// not been transformed yet.
    pub(in crate::data) fn to_device(
        &self,
        device: Device,
        masks: Option<&MaskPlan>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let y = match self {
            Self::Classes(classes) => Tensor::f_from_slice(classes)?,
            Self::Numbers { data, width: 0 } => Tensor::f_from_slice(data)?,
            Self::Numbers { data, width } => {
                Tensor::f_from_slice(data)?.f_view([-1, *width as i64])?
            }
            Self::Points { data, n } => Tensor::f_from_slice(data)?.f_view([-1, *n as i64, 2])?,
            Self::Boxes { n, data, classes, most } => {
                let (n, most) = (*n as i64, *most as i64);
                let boxes = Tensor::f_from_slice(data)?.f_view([n, most, 4])?;
                let classes = Tensor::f_from_slice(classes)?.f_view([n, most])?;
                return Ok((move_to(boxes, device)?, Some(move_to(classes, device)?)));
            }
            Self::Masks { n, codes, size: (w, h) } => {
                let shape = [*n as i64, (*h).into(), (*w).into()];
                let bytes = bytes_on(codes, &shape, device)?;
                let codes = match masks {
                    Some(plan) => plan.execute_tensor(&bytes)?,
                    None => bytes.f_to_kind(Kind::Int64)?,
                };
                return Ok((codes, None));
            }
        };
        let kind = y.kind();
        debug_assert!(matches!(kind, Kind::Int64 | Kind::Float));
        Ok((move_to(y, device)?, None))
    }
}

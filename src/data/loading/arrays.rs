//! Arrays in memory, of any shape, as data.

use super::{device::move_to, targets::Column};
use crate::{
    data::{
        dataset::{Dataset, beyond},
        digest::digest,
    },
    error::{Error, Result},
    image::Image,
    sample::{Batch, Sample, Target, Task},
    sys::caught,
};
use ndarray::{ArrayD, Axis};
use std::fmt;
use tch::{Device, Kind, Tensor};

/// Inputs and targets in memory, one row each, for
/// [`DataLoaders::from_arrays`](crate::data::DataLoaders::from_arrays). Batches are `f32` with shape `[N,
/// ...]`, where `...` is the shape of a row; there are no transforms.
#[derive(Clone)]
pub struct Arrays {
    /// The rows, concatenated.
    x: Vec<f32>,
    row: Vec<usize>,
    targets: Vec<Target>,
    task: Task,
}

impl fmt::Debug for Arrays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, row) = (self.targets.len(), &self.row);
        f.debug_struct("Arrays").field("n", &n).field("row", row).finish_non_exhaustive()
    }
}

impl Arrays {
    /// Creates data from the rows of `x` along its first axis, with a target for each.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `x` has no axis, its rows are empty, the number of targets differs from the
    /// number of rows, or a target does not match `task`.
    pub fn new(x: ArrayD<f32>, targets: Vec<Target>, task: Task) -> Result<Self> {
        let invalid = |why| Err(Error::mismatch("from_arrays", why));
        if x.ndim() == 0 || x.is_empty() {
            return invalid(format!("inputs of shape {:?} have no rows", x.shape()));
        }
        let n = x.len_of(Axis(0));
        if n != targets.len() {
            return invalid(format!("there are {n} inputs, but {} targets", targets.len()));
        }
        Column::new(&targets, &task, None, |k| format!("item {k}"))?;
        let row = x.shape()[1..].to_vec();
        let x = if x.is_standard_layout() { x } else { x.as_standard_layout().into_owned() };
        let x = x.into_raw_vec_and_offset().0;
        Ok(Self { x, row, targets, task })
    }

    /// Returns a digest of all inputs.
    pub(in crate::data) fn digest(&self) -> String {
        let shape = format!("{:?}", self.row).into_bytes();
        let rows = self
            .x
            .chunks(1 << 16)
            .map(|part| part.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        digest(std::iter::once(shape).chain(rows))
    }

    /// Creates data from the rows of tensors: `x` of any shape and kind, `y` as in a [`Batch`]: integers
    /// `[N]` for categories, numbers `[N, C]` for several categories (1 means yes), numbers `[N]` or `[N,
    /// n]` for values, integers `[N, H, W]` for masks.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Unsupported`] for points and boxes, which need images.
    pub fn from_tensors(x: &Tensor, y: &Tensor, task: Task) -> Result<Self> {
        // Some methods of `tch` cannot return an error, for example for complex numbers.
        caught(|| Self::read(x, y, task))
    }

    fn read(x: &Tensor, y: &Tensor, task: Task) -> Result<Self> {
        let shape: Vec<usize> = x.size().iter().map(|&s| s as usize).collect();
        let invalid = |why: String| Error::mismatch("from_arrays", why);
        let flat = x.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
        let x = ArrayD::from_shape_vec(shape, Vec::<f32>::try_from(&flat)?)
            .map_err(|e| invalid(e.to_string()))?;
        if matches!(task, Task::Points { .. } | Task::Boxes { .. }) {
            let why = "points and boxes are in pixels of images, which arrays do not have";
            return Err(Error::unsupported("from_arrays", why));
        }
        if matches!(task, Task::Mask { .. }) {
            return Self::new(x, masks(y)?, task);
        }
        let flat = y.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_reshape([-1])?;
        let numbers = Vec::<f64>::try_from(&flat)?;
        let width = match &task {
            Task::Category { .. } => 1,
            other => other.n_out(),
        };
        if width == 0 || numbers.len() != width * y.size().first().map_or(0, |&n| n as usize) {
            return Err(invalid(format!(
                "the targets have shape {:?}, but the task has {} outputs",
                y.size(),
                task.n_out()
            )));
        }
        // NaN and infinite numbers have a fraction too.
        let unfit = numbers.iter().find(|v| match &task {
            Task::Category { .. } => v.fract() != 0.0,
            Task::Categories { .. } => ![0.0, 1.0].contains(*v),
            _ => false,
        });
        if let Some(v) = unfit {
            let needed = match &task {
                Task::Category { .. } => "whole numbers",
                _ => "0 or 1",
            };
            return Err(invalid(format!("the targets contain {v}; categories must be {needed}")));
        }
        let target = |row: &[f64]| match &task {
            // A negative number becomes a category beyond the vocabulary, which is rejected.
            Task::Category { .. } => {
                Target::Category(if row[0] < 0.0 { usize::MAX } else { row[0] as usize })
            }
            Task::Categories { .. } => {
                Target::Categories((0..width).filter(|&c| row[c] != 0.0).collect())
            }
            _ => Target::Values(row.iter().map(|&v| v as f32).collect()),
        };
        let targets = numbers.chunks_exact(width).map(target).collect();
        Self::new(x, targets, task)
    }

    /// Concatenates both.
    pub(in crate::data) fn join(mut self, other: Self) -> Result<Self> {
        if self.row != other.row || self.task != other.task {
            let why = format!(
                "the rows have shapes {:?} and {:?}, or the tasks differ",
                self.row, other.row
            );
            return Err(Error::mismatch("from_arrays", why));
        }
        self.x.extend(other.x);
        self.targets.extend(other.targets);
        Ok(self)
    }

    /// Returns the batch of the given rows.
    pub(in crate::data) fn batch(&self, items: Vec<usize>, device: Device) -> Result<Batch> {
        let n: usize = self.row.iter().product();
        let x: Vec<f32> = items.iter().flat_map(|&i| &self.x[i * n..][..n]).copied().collect();
        let shape: Vec<_> = [items.len()].iter().chain(&self.row).map(|&s| s as i64).collect();
        let x = move_to(Tensor::f_from_slice(&x)?.f_view(&shape[..])?, device)?;
        let targets: Vec<_> = items.iter().map(|&i| self.targets[i].clone()).collect();
        let y = Column::new(&targets, &self.task, None, |k| self.name(items[k]))?;
        let y = y.map(|y| y.to_device(device, None)).transpose()?;
        Ok(Batch::new(x, y.map(|y| y.0), items))
    }
}

/// Converts masks, `[N, H, W]`, to targets.
fn masks(y: &Tensor) -> Result<Vec<Target>> {
    let [n, h, w] = y.size()[..] else {
        let why = format!("the shape of the masks is {:?}; it must be [N, H, W]", y.size());
        return Err(Error::mismatch("from_arrays", why));
    };
    let y = y.f_to_device(Device::Cpu)?;
    if y.numel() > 0 && (y.min().double_value(&[]) < 0.0 || y.max().double_value(&[]) > 255.0) {
        return Err(Error::mismatch("from_arrays", "codes of masks must be between 0 and 255"));
    }
    if y.is_floating_point() && !bool::try_from(y.f_trunc()?.f_eq_tensor(&y)?.f_all()?)? {
        return Err(Error::mismatch("from_arrays", "codes of masks must be whole numbers"));
    }
    let y = y.f_to_kind(Kind::Uint8)?.f_reshape([n, h * w])?;
    let mask = |i: i64| {
        let pixels = Vec::<u8>::try_from(&y.f_get(i)?)?;
        Ok(Target::Mask(Image::new(w as u32, h as u32, 1, pixels)?))
    };
    (0..n).map(mask).collect()
}

impl Dataset for Arrays {
    fn len(&self) -> usize {
        self.targets.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let why = format!("{} is a row of an array, not an image", self.name(index));
        Err(Error::mismatch("from_arrays", why))
    }

    fn name(&self, index: usize) -> String {
        format!("item {index}")
    }

    fn task(&self) -> Task {
        self.task.clone()
    }

    fn targets_in_memory(&self) -> bool {
        true
    }

    fn target(&self, index: usize) -> Result<Target> {
        self.targets.get(index).cloned().ok_or_else(|| beyond(index))
    }
}

//! Targets as tensors.

use super::device::move_to;
use crate::{
    error::{Error, Result},
    sample::{Target, Task},
};
use tch::{Device, Kind, Tensor};

/// The targets of a batch as numbers.
pub(in crate::data) enum Column {
    Classes(Vec<i64>),
    Numbers { data: Vec<f32>, width: usize },
}

impl Column {
    /// Of targets that fit `task`; `None` if none has a target. `name` is what the k-th is called.
    pub(in crate::data) fn new(
        targets: &[Target],
        task: &Task,
        name: impl Fn(usize) -> String,
    ) -> Result<Option<Self>> {
        if targets.iter().all(|t| matches!(t, Target::None)) {
            return Ok(None);
        }
        let width = task.n_out();
        let mut classes = vec![];
        let mut data = vec![];
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
                _ => false,
            };
            if !fits {
                let why = format!("{target:?} does not fit the task of {width} outputs");
                return Err(Error::Label { item: name(k), why });
            }
        }
        Ok(Some(match task {
            Task::Category { .. } => Self::Classes(classes),
            // One number each makes a plain list.
            Task::Values { n: 1 } => Self::Numbers { data, width: 0 },
            Task::Categories { .. } | Task::Values { .. } => Self::Numbers { data, width },
        }))
    }

    /// As a tensor: `i64` N, or `f32` N×width.
    pub(in crate::data) fn to_device(&self, device: Device) -> Result<Tensor> {
        let y = match self {
            Self::Classes(classes) => Tensor::f_from_slice(classes)?,
            Self::Numbers { data, width: 0 } => Tensor::f_from_slice(data)?,
            Self::Numbers { data, width } => {
                Tensor::f_from_slice(data)?.f_view([-1, *width as i64])?
            }
        };
        let kind = y.kind();
        debug_assert!(matches!(kind, Kind::Int64 | Kind::Float));
        move_to(y, device)
    }
}

//! How the items of one batch become tensors.

use super::{
    dataset::Dataset,
    prefetch::Job,
    skip::{OnError, Skipped},
};
use crate::{
    error::{Error, Result},
    sample::{Batch, Sample, Split, Target, Task},
    seed::{Seed, Stream},
    sys,
    transform::{self, BatchTransform, ItemTransform, Plan},
};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// What all batches of a pass share.
pub(super) struct Pass {
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) item_tfms: Arc<[Arc<dyn ItemTransform>]>,
    pub(super) batch_tfms: Arc<[Arc<dyn BatchTransform>]>,
    pub(super) split: Split,
    pub(super) seed: Seed,
    pub(super) pass: u64,
    pub(super) task: Task,
    pub(super) on_error: OnError,
    pub(super) skipped: Arc<Skipped>,
    /// Whether the batch transforms are carried out on the workers, not on a device.
    pub(super) on_workers: bool,
}

/// One use of an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) item: usize,
    /// 0 where an item comes first in a pass; counts where it is drawn again, so that it is
    /// transformed differently each time.
    pub(super) again: u32,
}

impl Pass {
    /// The sample of an item, transformed.
    pub(super) fn sample(&self, draw: Draw) -> Result<Sample> {
        let sample = self.dataset.get(draw.item)?;
        self.transform(sample, draw)
    }

    fn transform(&self, mut sample: Sample, draw: Draw) -> Result<Sample> {
        let pass = self.pass | u64::from(draw.again) << 40;
        let mut rng = self.seed.rng(Stream::Item { pass, index: draw.item as u64 });
        for tfm in &*self.item_tfms {
            sample = tfm.apply(sample, self.split, &mut rng).map_err(|e| Error::Transform {
                transform: format!("{tfm:?}"),
                item: self.dataset.name(draw.item),
                source: Box::new(e),
            })?;
        }
        Ok(sample)
    }
}

/// A batch to be loaded.
pub(super) struct BatchJob {
    pub(super) pass: Arc<Pass>,
    /// The batch's number in its pass.
    pub(super) index: u64,
    pub(super) draws: Vec<Draw>,
}

impl Job for BatchJob {
    type Part = Sample;
    /// `None` if every item was skipped.
    type Whole = Option<HostBatch>;

    fn parts(&self) -> usize {
        self.draws.len()
    }

    fn part(&self, k: usize) -> Result<Sample> {
        self.pass.sample(self.draws[k])
    }

    fn part_name(&self, k: usize) -> String {
        self.pass.dataset.name(self.draws[k].item)
    }

    fn whole(&self, parts: Vec<Result<Sample>>, pooled: bool) -> Result<Option<HostBatch>> {
        let (mut samples, mut items) = (vec![], vec![]);
        for (part, draw) in parts.into_iter().zip(&self.draws) {
            match part {
                Ok(sample) => {
                    samples.push(sample);
                    items.push(draw.item);
                }
                Err(e) if self.pass.on_error == OnError::Skip && Skipped::may(&e) => {
                    self.pass.skipped.add(draw.item, &e);
                }
                Err(e) => return Err(e),
            }
        }
        if samples.is_empty() {
            return Ok(None);
        }
        HostBatch::new(&self.pass, self.index, samples, items, pooled).map(Some)
    }
}

/// A batch before it is on its device.
pub(super) struct HostBatch {
    x: Pixels,
    size: (u32, u32),
    channels: u8,
    plan: Plan,
    y: Option<Column>,
    items: Vec<usize>,
}

enum Pixels {
    /// As the item transforms left them, N×H×W×C.
    Bytes(Vec<u8>),
    /// As the plan leaves them, N×H×W×C.
    Floats(Vec<f32>),
}

impl HostBatch {
    fn new(
        pass: &Pass,
        index: u64,
        samples: Vec<Sample>,
        items: Vec<usize>,
        pooled: bool,
    ) -> Result<Self> {
        let first = &samples[0].image;
        let (size, channels) = ((first.width(), first.height()), first.channels());
        for (sample, &item) in samples.iter().zip(&items) {
            let other = &sample.image;
            if (other.width(), other.height()) != size {
                return Err(Error::Collate {
                    first: pass.dataset.name(items[0]),
                    first_size: size,
                    other: pass.dataset.name(item),
                    other_size: (other.width(), other.height()),
                });
            }
            if other.channels() != channels {
                let why = format!("has {} channels, others have {channels}", other.channels());
                let item = pass.dataset.name(item);
                return Err(Error::Image { item, source: why.into() });
            }
        }
        let n = samples.len();
        let bytes = n * first.pixels().len();
        let (mut pixels, mut targets) = (Vec::with_capacity(bytes), Vec::with_capacity(n));
        for sample in samples {
            pixels.extend_from_slice(sample.image.pixels());
            targets.push(sample.target);
        }
        let y = Column::new(&targets, &pass.task, |k| pass.dataset.name(items[k]))?;
        let mut rng = pass.seed.rng(Stream::Batch { pass: pass.pass, index });
        let plan = transform::plan(&pass.batch_tfms, n, size, channels, pass.split, &mut rng)?;
        let x = if pass.on_workers {
            Pixels::Floats(plan.execute(&pixels, pooled)?)
        } else {
            Pixels::Bytes(pixels)
        };
        Ok(Self { x, size, channels, plan, y, items })
    }

    /// The batch on `device`.
    pub(super) fn placed_on(self, device: Device) -> Result<Batch> {
        let (n, c) = (self.items.len() as i64, i64::from(self.channels));
        let x = match self.x {
            Pixels::Floats(floats) => {
                let (w, h) = self.plan.output_size();
                let (w, h) = (i64::from(w), i64::from(h));
                let strides = [h * w * c, 1, w * c, c];
                let x = sys::tensor_from_vec(floats, &[n, c, h, w], &strides)?;
                self.plan.tensor_steps(move_to(x, device)?)?
            }
            Pixels::Bytes(bytes) => {
                let (w, h) = (i64::from(self.size.0), i64::from(self.size.1));
                let x = Tensor::f_from_slice(&bytes)?.f_view([n, h, w, c])?;
                self.plan.execute_tensor(&move_to(x, device)?)?
            }
        };
        let y = self.y.map(|y| y.to_device(device)).transpose()?;
        Ok(Batch { x, y, items: self.items })
    }
}

/// A tensor on `device`, copied without waiting where that is possible.
fn move_to(x: Tensor, device: Device) -> Result<Tensor> {
    match device {
        Device::Cpu => Ok(x),
        Device::Cuda(_) => {
            let kind = x.kind();
            Ok(x.f_pin_memory(device)?.f_to_device_(device, kind, true, false)?)
        }
        device => Ok(x.f_to_device(device)?),
    }
}

/// The targets of a batch as numbers.
pub(super) enum Column {
    Classes(Vec<i64>),
    Numbers { data: Vec<f32>, width: usize },
}

impl Column {
    /// Of targets that fit `task`; `None` if none has a target. `name` is what the k-th is called.
    pub(super) fn new(
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
    pub(super) fn to_device(&self, device: Device) -> Result<Tensor> {
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

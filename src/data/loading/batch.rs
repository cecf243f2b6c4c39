//! The items of one batch as tensors.

use super::{
    buffers::Buffers,
    device::{bytes_on, move_to},
    pass::{Draw, Pass},
    prefetch::Job,
    share::BatchPart,
    skip::{OnError, Skipped},
    targets::Column,
};
use crate::{
    error::{Error, Result},
    image::Image,
    sample::{Batch, Placement, Sample, Target, Task},
    seed::Stream,
    sys::{self, Slots},
    transform::{self, MaskPlan, Plan, clip_boxes},
};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tch::{Device, Tensor};

/// A batch to load. Its memory is allocated when its first item is loaded, and each item is written to its
/// place by the thread that loads it.
pub(in crate::data) struct BatchJob {
    pass: Arc<Pass>,
    /// The number of the batch in its pass.
    index: u64,
    /// The items that are loaded by this process.
    draws: Vec<Draw>,
    /// The place of the first of them in the global batch, and the size of the global batch.
    first: usize,
    whole: usize,
    stand_in: bool,
    frame: Mutex<Option<Arc<Frame>>>,
}

/// The items of a batch that are loaded by this process.
pub(in crate::data) struct Piece {
    pub(in crate::data) draws: Vec<Draw>,
    /// The place of the first of them in the global batch.
    pub(in crate::data) first: usize,
    /// The size of the global batch.
    pub(in crate::data) whole: usize,
    /// True if the item is a placeholder from another share.
    pub(in crate::data) stand_in: bool,
}

/// The result of loading an item. Its pixels are in their place if their size matches.
pub(in crate::data) struct Placed {
    size: (u32, u32),
    channels: u8,
    target: Target,
    placement: Option<Placement>,
}

/// The memory of a batch and the plan of its images.
struct Frame {
    size: (u32, u32),
    channels: u8,
    plan: Plan,
    /// The plan for the masks, if the workers transform them.
    masks: Option<MaskPlan>,
    pixels: Pixels<Slots<u8>, Slots<f32>>,
}

enum Pixels<B, F> {
    /// The output of the item transforms, `[N, H, W, C]`.
    Bytes(B),
    /// The output of the plan, `[N, H, W, C]`.
    Floats(F),
}

impl BatchJob {
    pub(in crate::data) fn new(pass: Arc<Pass>, index: u64, piece: Piece) -> Self {
        let Piece { draws, first, whole, stand_in } = piece;
        Self { pass, index, draws, first, whole, stand_in, frame: Mutex::new(None) }
    }

    /// Returns the frame, allocated for the size of `image` if it is the first.
    fn frame(&self, image: &Image) -> Result<Arc<Frame>> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = &*frame {
            return Ok(frame.clone());
        }
        let new = Arc::new(self.lay_out(image)?);
        *frame = Some(new.clone());
        Ok(new)
    }

    fn lay_out(&self, image: &Image) -> Result<Frame> {
        let (pass, n) = (&self.pass, self.draws.len());
        let (size, channels) = ((image.width(), image.height()), image.channels());
        let mut rng = pass.seed.rng(Stream::Batch { pass: pass.pass, index: self.index });
        let all = self.whole;
        let mut plan =
            transform::plan(&pass.batch_tfms, all, size, channels, pass.split, &mut rng)?;
        if n < all {
            // The draws of an item are the same for any number of processes.
            plan.keep(&(self.first..self.first + n).collect::<Vec<_>>())?;
        }
        let volume = |(w, h): (u32, u32)| w as usize * h as usize * usize::from(channels);
        // Without batch transforms, a batch is stored as bytes, a quarter of the memory, until it is taken.
        let pixels = if pass.on_workers && !pass.batch_tfms.is_empty() {
            let each = volume(plan.output_size());
            Pixels::Floats(Slots::new(pass.buffers.floats(n * each), each))
        } else {
            let each = volume(size);
            Pixels::Bytes(Slots::new(pass.buffers.bytes(n * each), each))
        };
        let masks =
            (pass.on_workers && matches!(pass.task, Task::Mask { .. })).then(|| plan.for_masks());
        Ok(Frame { size, channels, plan, masks, pixels })
    }
}

impl Frame {
    fn fits(&self, image: &Image) -> bool {
        self.size == (image.width(), image.height()) && self.channels == image.channels()
    }

    /// Writes an image to place `k`.
    fn place(&self, k: usize, image: &Image) -> Result<()> {
        let from = image.pixels();
        let done = match &self.pixels {
            Pixels::Bytes(bytes) => bytes.fill(k, |to| {
                to.copy_from_slice(from);
                Ok(())
            }),
            Pixels::Floats(floats) => floats.fill(k, |to| self.plan.execute_image(k, from, to)),
        };
        done.unwrap_or_else(|| Err(Error::worker(format!("place {k} was written twice"))))
    }

    /// Transforms the target of the image at place `k` like its pixels. Masks may be left to the device.
    fn moved(&self, k: usize, target: Target) -> Result<Target> {
        Ok(match (target, &self.masks) {
            (Target::Mask(mask), Some(masks)) => Target::Mask(masks.execute(k, &mask)?),
            (Target::Points(mut points), _) => {
                self.plan.move_points(k, &mut points);
                Target::Points(points)
            }
            // As in fastai, boxes are clipped to the image before it is transformed.
            (Target::Boxes(boxes), _) => {
                Target::Boxes(self.plan.move_boxes(k, clip_boxes(boxes, self.size)))
            }
            (other, _) => other,
        })
    }
}

impl Job for BatchJob {
    type Part = Placed;
    type Whole = HostPart;

    fn parts(&self) -> usize {
        self.draws.len()
    }

    fn part(&self, k: usize) -> Result<Placed> {
        let sample = self.pass.sample(self.draws[k])?;
        let mut placement = sample.placement().cloned();
        let Sample { image, mut target, .. } = sample;
        let frame = self.frame(&image)?;
        if frame.fits(&image) {
            frame.place(k, &image)?;
            target = frame.moved(k, target)?;
            placement = placement.map(|p| frame.plan.placement(k, &p));
        }
        let (size, channels) = ((image.width(), image.height()), image.channels());
        Ok(Placed { size, channels, target, placement })
    }

    fn part_name(&self, k: usize) -> String {
        self.pass.name(self.draws[k].item)
    }

    fn whole(&self, parts: Vec<Result<Placed>>) -> Result<HostPart> {
        let (mut kept, mut placed) = (vec![], vec![]);
        for (k, part) in parts.into_iter().enumerate() {
            match part {
                Ok(part) => {
                    kept.push(k);
                    placed.push(part);
                }
                Err(e) if self.pass.on_error == OnError::Skip && Skipped::may(&e) => {
                    let item = self.draws[k].item;
                    self.pass.skipped.add(item, || self.pass.name(item), &e);
                }
                Err(e) => return Err(e),
            }
        }
        if kept.is_empty() {
            let Self { whole, stand_in, .. } = *self;
            return Ok(HostPart { batch: None, places: vec![], whole, stand_in });
        }
        let items: Vec<usize> = kept.iter().map(|&k| self.draws[k].item).collect();
        let name = |k: usize| self.pass.name(items[k]);
        all_alike(&placed, name)?;
        let (targets, placements): (Vec<_>, Vec<_>) =
            placed.into_iter().map(|p| (p.target, p.placement)).unzip();
        let frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner).take();
        let frame = frame.and_then(Arc::into_inner);
        let gone = || Error::worker("the memory of a batch was released too early");
        let Frame { size, channels, mut plan, masks, pixels } = frame.ok_or_else(gone)?;
        let y = Column::new(&targets, &self.pass.task, Some(plan.size_so_far()), name)?;
        let whole = kept.len() == self.draws.len();
        let x = match pixels {
            Pixels::Bytes(slots) if whole => Pixels::Bytes(slots.into_vec()),
            Pixels::Bytes(slots) => Pixels::Bytes(keep(slots.into_vec(), &kept, self.draws.len())),
            Pixels::Floats(slots) if whole => Pixels::Floats(slots.into_vec()),
            Pixels::Floats(slots) => {
                Pixels::Floats(keep(slots.into_vec(), &kept, self.draws.len()))
            }
        };
        if !whole {
            plan.keep(&kept)?;
        }
        let buffers = Arc::downgrade(&self.pass.buffers);
        let places = kept.iter().map(|k| self.first + k).collect();
        let masks_moved = masks.is_some();
        let batch =
            HostBatch { x, size, channels, plan, y, masks_moved, items, placements, buffers };
        let Self { whole, stand_in, .. } = *self;
        Ok(HostPart { batch: Some(batch), places, whole, stand_in })
    }
}

/// Checks that all images have the same size. The reported items do not depend on which one was loaded
/// first.
fn all_alike(placed: &[Placed], name: impl Fn(usize) -> String) -> Result<()> {
    let first = &placed[0];
    for (k, other) in placed.iter().enumerate() {
        if other.size != first.size {
            return Err(Error::collate(name(0), first.size, name(k), other.size));
        }
        if other.channels != first.channels {
            let why = format!("has {} channels, others have {}", other.channels, first.channels);
            return Err(Error::image(name(k), why));
        }
    }
    Ok(())
}

/// Returns the `kept` ones of `n` equal parts.
fn keep<T: Copy>(mut data: Vec<T>, kept: &[usize], n: usize) -> Vec<T> {
    let each = data.len() / n;
    for (to, &from) in kept.iter().enumerate() {
        data.copy_within(from * each..(from + 1) * each, to * each);
    }
    data.truncate(kept.len() * each);
    data
}

/// The loaded part of a batch, before it is copied to its device.
pub(in crate::data) struct HostPart {
    /// `None` if there was no item, or every item was skipped.
    batch: Option<HostBatch>,
    places: Vec<usize>,
    whole: usize,
    stand_in: bool,
}

impl HostPart {
    /// Copies the part to `device`.
    pub(in crate::data) fn placed_on(self, device: Device) -> Result<BatchPart> {
        let Self { batch, places, whole, stand_in } = self;
        let batch = batch.map(|batch| batch.placed_on(device)).transpose()?;
        Ok(BatchPart { batch, places, whole, stand_in })
    }
}

/// A batch in host memory.
struct HostBatch {
    x: Pixels<Vec<u8>, Vec<f32>>,
    size: (u32, u32),
    channels: u8,
    plan: Plan,
    y: Option<Column>,
    masks_moved: bool,
    items: Vec<usize>,
    placements: Vec<Option<Placement>>,
    buffers: Weak<Buffers>,
}

impl HostBatch {
    /// Copies the batch to `device`.
    fn placed_on(self, device: Device) -> Result<Batch> {
        let Self { x, size, channels, plan, y, masks_moved, items, placements, buffers } = self;
        let n = items.len() as i64;
        let x = match x {
            Pixels::Floats(floats) => {
                let shape = (plan.output_size(), channels);
                let x = lent(floats, n, shape, buffers)?;
                plan.tensor_steps(move_to(x, device)?)?
            }
            Pixels::Bytes(bytes) if device == Device::Cpu => {
                let x = lent(to_floats(&bytes, &buffers), n, (size, channels), buffers.clone())?;
                give_back(&buffers, bytes);
                x
            }
            Pixels::Bytes(bytes) => {
                let (w, h) = (i64::from(size.0), i64::from(size.1));
                let shape = [n, h, w, i64::from(channels)];
                let x = bytes_on(&bytes, &shape, device)?;
                give_back(&buffers, bytes);
                plan.execute_tensor(&x)?
            }
        };
        let to_device = |y: Column| {
            let masks = (!masks_moved).then(|| plan.for_masks());
            y.to_device(device, masks.as_ref())
        };
        let (y, labels) = y.map(to_device).transpose()?.unzip();
        Ok(Batch { x, y, labels: labels.flatten(), items, placements })
    }
}

fn give_back(buffers: &Weak<Buffers>, bytes: Vec<u8>) {
    if let Some(buffers) = buffers.upgrade() {
        buffers.give_bytes(bytes);
    }
}

/// Converts bytes to values from 0 to 1.
fn to_floats(bytes: &[u8], buffers: &Weak<Buffers>) -> Vec<f32> {
    let mut floats = match buffers.upgrade() {
        Some(buffers) => buffers.floats(bytes.len()),
        None => vec![0.0; bytes.len()],
    };
    sys::fractions(bytes, &mut floats);
    floats
}

/// Returns an `[N, C, H, W]` view of `[N, H, W, C]` floats. Their memory returns to `buffers` when the last
/// view is dropped.
fn lent(
    floats: Vec<f32>,
    n: i64,
    ((w, h), c): ((u32, u32), u8),
    buffers: Weak<Buffers>,
) -> Result<Tensor> {
    let (w, h, c) = (i64::from(w), i64::from(h), i64::from(c));
    sys::tensor_lent(floats, &[n, c, h, w], &[h * w * c, 1, w * c, c], move |used| {
        if let Some(buffers) = buffers.upgrade() {
            buffers.give_floats(used);
        }
    })
}

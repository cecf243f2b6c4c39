//! Compares an ONNX file with the model on validation items.

use super::onnx_report::{OnnxDifference, OnnxVerification};
use crate::{
    data::{DataLoader, ImageSource, LoaderOptions},
    error::{Error, Result},
    learner::{Training, predict::evaluate},
    onnx::{ModelCard, Network, NetworkInput, RUNTIME},
    sample::{Batch, Split, Target, Task},
    sys::caught,
};
use finetune_image::preparation::Preparation;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// The file to compare.
pub(super) struct Exported<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) card: &'a ModelCard,
    /// Whether the weights have 16 bits.
    pub(super) half: bool,
}

/// Whether this build has a runtime.
pub(super) const AVAILABLE: bool = true;

/// Succeeds: the runtime is part of this build.
pub(super) fn available() -> Result<()> {
    Ok(())
}

/// Compares the file with the model on `n` items of `loader`, or on all if it has fewer.
pub(super) fn verified(
    t: &Training,
    loader: &DataLoader,
    what: &Exported<'_>,
    n: usize,
) -> Result<OnnxVerification> {
    let _guard = tch::no_grad_guard();
    let all = loader.items();
    let n = n.min(all.len());
    let items: Vec<usize> = (0..n).map(|i| all[i * all.len() / n]).collect();
    let plain = LoaderOptions::new().shuffle(false).drop_last(false).split(Split::Valid);
    let loader = loader.subset(items)?.with(plain)?;
    let mut compared = Compared::default();
    let mut reader: Option<Reader<'_>> = None;
    for batch in loader.batches(0) {
        let batch = batch?;
        let name = |item| caught(|| Ok(loader.dataset().name(item))).unwrap_or_default();
        let expected = t.model.forward(&batch.x, false)?.f_to_kind(Kind::Float)?;
        evaluate::check_numbers(&expected, |i| name(batch.items[i]))?;
        let reader = match &mut reader {
            Some(reader) => reader,
            none => none.insert(Reader::new(&loader, what, &batch)?),
        };
        let found = reader.outputs(&batch, &expected.size())?;
        compared.add(t, what, &batch, &expected, &found, name)?;
    }
    if compared.items == 0 {
        return Err(loader.all_skipped());
    }
    Ok(OnnxVerification {
        runtime: RUNTIME,
        items: compared.items,
        largest_difference: compared.difference,
        scale: compared.scale,
        differing: compared.differing,
    })
}

/// Predicts items with the file alone: with its network, and the preparation that it describes.
struct Reader<'a> {
    loader: &'a DataLoader,
    network: Network,
    input: NetworkInput,
    /// The shape of the input without the number of images.
    sides: Vec<usize>,
    preparation: Preparation,
}

impl<'a> Reader<'a> {
    fn new(loader: &'a DataLoader, what: &Exported<'_>, batch: &Batch) -> Result<Self> {
        // Read the file back, as another program does.
        let card = ModelCard::from_json(&what.card.to_json()?)?;
        let sides: Vec<usize> = batch.x.size().iter().skip(1).map(|n| *n as usize).collect();
        let (network, sides) = match (card.input, &sides[..]) {
            (NetworkInput::Pixels, &[c, h, w]) => {
                (Network::new::<u8>(what.bytes, &[1, h, w, c])?, vec![h, w, c])
            }
            _ => {
                let shape: Vec<usize> = std::iter::once(1).chain(sides.iter().copied()).collect();
                (Network::new::<f32>(what.bytes, &shape)?, sides)
            }
        };
        Ok(Self { loader, network, input: card.input, sides, preparation: card.preparation()? })
    }

    /// Returns the outputs for the items of a batch, of the given size.
    fn outputs(&self, batch: &Batch, size: &[i64]) -> Result<Tensor> {
        let n = batch.items.len();
        let rows = if self.loader.has_images() {
            let one = |&item: &usize| self.output(item);
            batch.items.par_iter().map(one).collect::<Result<Vec<_>>>()?
        } else {
            let rows = floats(&batch.x)?;
            let rows = rows.par_chunks(rows.len() / n.max(1)).map(|row| self.network.run(row));
            rows.collect::<Result<Vec<_>>>()?
        };
        Ok(Tensor::f_from_slice(&rows.concat())?.f_view(size)?)
    }

    /// Returns the outputs for an item. Its image is read from its file, if it has one, otherwise from
    /// the data set.
    fn output(&self, item: usize) -> Result<Vec<f32>> {
        let data = self.loader.dataset();
        let name = caught(|| Ok(data.name(item)))?;
        let image = match caught(|| Ok(data.file(item)))? {
            Some(path) => ImageSource::from(path),
            None => caught(|| data.get(item))?.image.into(),
        };
        let sample = self.preparation.sample(&image, &name)?;
        let prepared = self.preparation.batch(vec![sample], 0)?;
        let channels = usize::from(prepared.plan.channels());
        if let NetworkInput::Pixels = self.input {
            let (w, h) = prepared.plan.input_size();
            self.fits(&[h as usize, w as usize, channels], &name)?;
            return self.network.run(&prepared.pixels);
        }
        let (pixels, (w, h)) = prepared.floats()?;
        self.fits(&[channels, h as usize, w as usize], &name)?;
        let shape = [i64::from(h), i64::from(w), channels as i64];
        let x = Tensor::f_from_slice(&pixels)?.f_view(shape)?.f_permute([2, 0, 1])?;
        self.network.run(&floats(&x)?)
    }

    fn fits(&self, sides: &[usize], name: &str) -> Result<()> {
        if sides == self.sides {
            return Ok(());
        }
        let why = format!(
            "{name} is {sides:?} after the transforms, and the file takes {:?}",
            self.sides
        );
        Err(Error::mismatch("export_onnx", why))
    }
}

/// The differences so far.
#[derive(Debug, Default)]
struct Compared {
    items: usize,
    difference: f64,
    scale: f64,
    differing: Vec<OnnxDifference>,
}

impl Compared {
    /// Adds a batch. `expected` are the outputs of the model, `found` those of the file.
    fn add(
        &mut self,
        t: &Training,
        what: &Exported<'_>,
        batch: &Batch,
        expected: &Tensor,
        found: &Tensor,
        name: impl Fn(usize) -> String,
    ) -> Result<()> {
        let applied = what.card.output.applied;
        let task = t.dls.task();
        let size = evaluate::picture_size(&batch.x);
        let labels = |activated: &Tensor| {
            evaluate::decode(&caught(|| t.loss.decode(activated))?, None, &task, size)
        };
        let activated = caught(|| t.loss.activation(expected))?;
        let expected_labels = labels(&activated)?;
        let found_labels = labels(&match applied {
            true => found.f_to_device(activated.device())?,
            false => caught(|| t.loss.activation(&found.f_to_device(expected.device())?))?,
        })?;
        let expected = floats(if applied { &activated } else { expected })?;
        let found = floats(found)?;
        let scale = expected.iter().fold(0.0_f64, |most, x| most.max(f64::from(x.abs())));
        self.scale = self.scale.max(scale);
        self.items += batch.items.len();
        let each = (expected.len() / batch.items.len().max(1)).max(1);
        let rows = expected.chunks(each).zip(found.chunks(each));
        for (i, (expected, found)) in rows.enumerate() {
            let difference = largest(expected, found);
            self.difference = self.difference.max(difference);
            let same = match task {
                Task::Category { .. } | Task::Categories { .. } => {
                    expected_labels.get(i) == found_labels.get(i) && difference.is_finite()
                }
                _ => difference <= allowed(what.half) * scale,
            };
            if !same {
                let item = batch.items[i];
                let words = |all: &[Target]| all.get(i).map_or_else(String::new, |l| task.words(l));
                self.differing.push(OnnxDifference {
                    item,
                    name: name(item),
                    expected: words(&expected_labels),
                    found: words(&found_labels),
                });
            }
        }
        Ok(())
    }
}

/// Returns the tolerated difference of equal numbers, as a fraction of the largest output.
fn allowed(half: bool) -> f64 {
    if half { 1e-2 } else { 1e-3 }
}

/// Returns the largest difference; infinite if one is NaN.
fn largest(expected: &[f32], found: &[f32]) -> f64 {
    let difference = |(a, b): (&f32, &f32)| match f64::from(a - b).abs() {
        x if x.is_nan() => f64::INFINITY,
        x => x,
    };
    expected.iter().zip(found).map(difference).fold(0.0, f64::max)
}

fn floats(t: &Tensor) -> Result<Vec<f32>> {
    let flat = t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    Ok(Vec::try_from(&flat)?)
}

//! Compares an ONNX file with the model on validation items.

use super::onnx_report::{OnnxDifference, OnnxVerification};
use crate::{
    data::{DataLoader, ImageSource, LoaderOptions},
    error::{Error, Result},
    learner::{Training, predict::evaluate},
    onnx::{ModelCard, NetworkInput, OutputActivation},
    sample::{Batch, Split, Target, Task},
    sys::{caught, caught_tensor},
};
use finetune_image::preparation::Preparation;
use finetune_predict::{Input, Network, Predictor};
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The name of the runtime in reports.
const RUNTIME: &str = "tract";

/// The file to compare.
pub(super) struct Exported<'a> {
    pub(super) path: &'a Path,
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
        let (rows, n) = (expected.size().first().copied(), batch.items.len());
        if rows != Some(n as i64) {
            let why = format!("it has outputs of shape {:?} for {n} items", expected.size());
            return Err(Error::mismatch("model", why));
        }
        evaluate::check_numbers(&expected, |i| name(batch.items[i]))?;
        let reader = match &mut reader {
            Some(reader) => reader,
            none => none.insert(Reader::new(&loader, what)?),
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
    preparation: Preparation,
}

impl<'a> Reader<'a> {
    fn new(loader: &'a DataLoader, what: &Exported<'_>) -> Result<Self> {
        // Read the file back, as another program does.
        let card = ModelCard::from_json(&what.card.to_json()?)?;
        // A predictor also checks that the network and the description belong together. It takes images only.
        let network = match loader.has_images() {
            true => Predictor::from_bytes(what.bytes).map(|p| p.network().clone()),
            false => Network::from_bytes(what.bytes),
        };
        let network = network.map_err(|e| match e {
            Error::Checkpoint { why, .. } => {
                Error::unsupported("export_onnx", format!("{}: {why}", what.path.display()))
            }
            e => e,
        })?;
        Ok(Self { loader, network, input: card.input, preparation: card.preparation()? })
    }

    /// Returns the outputs for the items of a batch, of the given size.
    fn outputs(&self, batch: &Batch, size: &[i64]) -> Result<Tensor> {
        let arrays = match self.loader.has_images() {
            true => None,
            false => Some(array(&batch.x)?),
        };
        let one = |(i, &item): (usize, &usize)| {
            let name = caught(|| Ok(self.loader.dataset().name(item)))?;
            let input = match &arrays {
                Some(arrays) => arrays.slice_axis(Axis(0), (i..=i).into()).to_owned().into(),
                None => self.image(item, &name)?,
            };
            let of_item = Error::computation(|| format!("the verification of {name}"));
            self.network.run(input).map_err(of_item)
        };
        let rows = batch.items.par_iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
        let all: Vec<f32> = rows.into_iter().flatten().collect();
        Ok(Tensor::f_from_slice(&all)?.f_view(size)?)
    }

    /// Returns the image of an item, read from its file, if it has one, otherwise from the data set.
    fn image(&self, item: usize, name: &str) -> Result<Input> {
        let data = self.loader.dataset();
        let image = match caught(|| Ok(data.file(item)))? {
            Some(path) => ImageSource::from(path),
            None => caught(|| data.get(item))?.image.into(),
        };
        let sample = self.preparation.sample(&image, name)?;
        Input::prepared(self.preparation.batch(vec![sample], 0)?, self.input)
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
        let card = what.card;
        let applied = card.output.applied;
        let task = t.dls.task();
        let size = evaluate::picture_size(&batch.x);
        let activated = caught_tensor(|| t.loss.activation(expected))?;
        check_activation(t, card, expected, &activated)?;
        let labels = |decoded: Tensor| evaluate::decode(&decoded, None, &task, size);
        let expected_labels = labels(caught_tensor(|| t.loss.decode(&activated))?)?;
        // The loss may be code whose `spec` names another threshold: only the file decides.
        let found_labels = labels(match applied {
            true => decided(card, &task, found)?,
            false => decided(card, &task, &described(card, found)?)?,
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

/// Applies the activation that the file describes.
fn described(card: &ModelCard, outputs: &Tensor) -> Result<Tensor> {
    Ok(match card.output.activation {
        OutputActivation::Softmax => outputs.f_softmax(1, Kind::Float)?,
        OutputActivation::Sigmoid => outputs.f_sigmoid()?,
        _ => outputs.shallow_clone(),
    })
}

/// Decodes activated outputs as a predictor of the file does.
fn decided(card: &ModelCard, task: &Task, activated: &Tensor) -> Result<Tensor> {
    Ok(match task {
        Task::Category { .. } | Task::Mask { .. } => activated.f_argmax(1, false)?,
        Task::Categories { .. } => activated.f_gt(card.output.threshold)?,
        _ => activated.shallow_clone(),
    })
}

/// Returns an error if the activation of the loss is not the one that the file describes.
fn check_activation(
    t: &Training,
    card: &ModelCard,
    outputs: &Tensor,
    activated: &Tensor,
) -> Result<()> {
    let described = described(card, outputs)?;
    let same = described.size() == activated.size()
        && described.f_allclose(&activated.f_to_kind(described.f_kind()?)?, 1e-4, 1e-4, false)?;
    if same {
        return Ok(());
    }
    let why = format!(
        "the activation of the loss `{}` differs from that of the loss that its `spec` names: {:?}",
        t.loss.name(),
        card.output.activation
    );
    Err(Error::unsupported("export_onnx", why))
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

/// The values of a tensor as an array of its shape.
fn array(t: &Tensor) -> Result<ArrayD<f32>> {
    let shape: Vec<usize> = t.size().iter().map(|n| *n as usize).collect();
    ArrayD::from_shape_vec(shape, floats(t)?).map_err(Error::other)
}

fn floats(t: &Tensor) -> Result<Vec<f32>> {
    let flat = t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    Ok(Vec::try_from(&flat)?)
}

//! A trained model as an ONNX file.

use super::{onnx_check, onnx_report::OnnxVerification};
use crate::{
    data::DataLoader,
    disk,
    error::{Error, Result},
    learner::{Learner, Training},
    loss::LossSpec,
    onnx::{self, ModelCard, NetworkInput, NetworkOutput, OutputActivation, Writing},
    sample::{Split, Task},
    seed::{Seed, Stream},
    transform::{self, BatchSpec, ItemSpec},
};
use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
};
use tch::Kind;

/// The default number of validation items that are compared.
const VERIFIED: usize = 64;

/// Options of [`Learner::export_onnx`]. A path converts to the default options.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    path: PathBuf,
    activation: bool,
    pixels: bool,
    half: bool,
    verify: Option<usize>,
    tolerance: f64,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for OnnxOptions {
    fn from(path: &P) -> Self {
        Self::new(path)
    }
}

impl From<PathBuf> for OnnxOptions {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

impl From<String> for OnnxOptions {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}

impl OnnxOptions {
    /// Creates the options for a file at `path` that takes prepared floats and returns logits, with
    /// 32-bit weights. It is verified on 64 items in builds with the feature `onnx`.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            activation: false,
            pixels: false,
            half: false,
            verify: None,
            tolerance: 0.0,
        }
    }
    /// Sets whether the file contains the activation, a softmax or a sigmoid, and returns probabilities. Default: false.
    #[must_use]
    pub fn activation(mut self, yes: bool) -> Self {
        self.activation = yes;
        self
    }
    /// Sets whether the file takes bytes `[N, H, W, C]`, the result of the item transforms, and contains the normalization.
    /// Batch transforms that do more to validation images, such as a crop, are an error. Default: false, floats
    /// `[N, C, H, W]` after all transforms.
    #[must_use]
    pub fn pixels(mut self, yes: bool) -> Self {
        self.pixels = yes;
        self
    }
    /// Sets whether weights are stored as 16-bit floats, which halves the file. They are converted to 32-bit floats when the
    /// file is loaded, and computation is in 32 bits. Default: false.
    #[must_use]
    pub fn half(mut self, yes: bool) -> Self {
        self.half = yes;
        self
    }
    /// Sets the number of validation items whose labels are compared with the model's, spread evenly
    /// over the validation set. 0 writes the file without verification; `usize::MAX` takes all items.
    /// Default: 64, or 0 in builds without the cargo feature `onnx`.
    ///
    /// Verification runs the file with [tract](https://github.com/sonos/tract). Without the feature, every number except
    /// 0 is an error.
    #[must_use]
    pub fn verify(mut self, items: usize) -> Self {
        self.verify = Some(items);
        self
    }
    /// Sets the fraction of the verified items whose label may differ, from 0 to 1. Default: 0.
    #[must_use]
    pub fn tolerance(mut self, fraction: f64) -> Self {
        self.tolerance = fraction;
        self
    }
}

/// The result of [`Learner::export_onnx`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OnnxReport {
    /// The file.
    pub path: PathBuf,
    /// The size of the file in bytes.
    pub bytes: usize,
    /// The version of ONNX's operators.
    pub opset: i64,
    /// The comparison of the file with the model. `None` if [`OnnxOptions::verify`] is 0, which is the default in builds
    /// without the cargo feature `onnx`.
    pub verified: Option<OnnxVerification>,
}

impl fmt::Display for OnnxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes, opset {}", self.path.display(), self.bytes, self.opset)?;
        match &self.verified {
            Some(verified) => write!(f, "; {verified}"),
            None if onnx_check::AVAILABLE => f.write_str("; not verified"),
            None => f.write_str("; not verified: built without the feature `onnx`"),
        }
    }
}

impl Learner {
    /// Writes the model as an ONNX file, by recording its operations on a batch, and verifies it. The
    /// file takes any number of images of the size of the validation images.
    ///
    /// The file is loaded by `Predictor` of the package `finetune-predict`, or by its `Network` if the items are
    /// arrays, and run by [tract](https://github.com/sonos/tract) on a sample of the validation items,
    /// whose images are prepared as the metadata of the file describes. Its labels must be those of the
    /// model; otherwise no file is written. The report has the largest difference of the outputs.
    /// Verification needs the cargo feature `onnx`. Without it, the file is not verified, which the
    /// report states, and setting [`OnnxOptions::verify`] is an error.
    ///
    /// Batch normalizations are folded into the convolutions before them. Weights keep their names, and operations are
    /// named after them, such as `/layer1/0/conv1/Conv`. The metadata holds `labels` (JSON), `opset`, and under
    /// `finetune` a JSON object: the task with its vocabulary, the decoding, the transforms and the activation of the
    /// outputs.
    ///
    /// In a distributed training, every process exports and verifies, and the first one writes the file.
    ///
    /// ```no_run
    /// # fn f(learn: finetune::learner::Learner) -> finetune::Result<()> {
    /// use finetune::learner::OnnxOptions;
    ///
    /// println!("{}", learn.export_onnx("pets.onnx")?);
    /// let small = OnnxOptions::new("pets-small.onnx").half(true).activation(true).verify(500);
    /// println!("{}", learn.export_onnx(small.tolerance(0.01))?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// - [`Error::Unsupported`] if a transform or the loss is code that a file cannot hold, if the activation of the loss
    ///   differs from that of the loss that its `spec` names, if this
    ///   crate has no ONNX operation for an operation of the network (the error names it and its module),
    ///   if tract cannot build the network, if the shape of its outputs does not fit the task, or if
    ///   [`OnnxOptions::verify`] is set and the crate was built without the feature `onnx`.
    /// - [`Error::Export`] naming the items if the labels of more than [`OnnxOptions::tolerance`] of them differ.
    /// - [`Error::NonFiniteWeights`] if a weight is NaN or infinite.
    /// - [`Error::Config`] if the tolerance is not between 0 and 1.
    /// - [`Error::Computation`] naming the item if the file cannot be verified on it.
    /// - [`Error::Io`] if the file cannot be written, and any error of the validation items.
    pub fn export_onnx(&self, options: impl Into<OnnxOptions>) -> Result<OnnxReport> {
        let OnnxOptions { path, activation, pixels, half, verify, tolerance } = options.into();
        if !(0.0..=1.0).contains(&tolerance) {
            let why = format!("is {tolerance}; it must be between 0 and 1");
            return Err(Error::config("tolerance", why));
        }
        let verify = match verify {
            Some(0) => 0,
            Some(n) => onnx_check::available().map(|()| n)?,
            None if onnx_check::AVAILABLE => VERIFIED,
            None => 0,
        };
        let t = &self.training;
        t.model.check_finite()?;
        let mut card = card(t, activation)?;
        let loader = prepared_as_validation(t);
        let batch = loader.one_batch()?;
        let example = batch.x.f_narrow(0, 0, 1)?.f_to_kind(Kind::Float)?;
        let normalize = if pixels {
            card.input = NetworkInput::Pixels;
            let first = batch.items.first().copied().unwrap_or_default();
            normalization(t, &loader, first)?
        } else {
            None
        };
        let labels = serde_json::to_string(card.task.vocab()).map_err(Error::other)?;
        let metadata = [
            (ModelCard::KEY, card.to_json()?),
            ("labels", labels),
            ("opset", onnx::OPSET.to_string()),
        ];
        let inside = card.output.applied;
        let how = Writing {
            input: card.input,
            normalize: normalize.as_ref().map(|(mean, std)| (&mean[..], &std[..])),
            activation: if inside { card.output.activation } else { OutputActivation::None },
            half,
            metadata: &metadata,
        };
        let bytes = onnx::write(&t.model, &example, &how)?;
        let verified = match verify {
            0 => None,
            n => {
                let what = onnx_check::Exported { path: &path, bytes: &bytes, card: &card, half };
                let verified = onnx_check::verified(t, &loader, &what, n)?;
                accept(&path, &verified, tolerance)?;
                Some(verified)
            }
        };
        if t.is_first_rank() {
            disk::replace(&path, |file| file.write_all(&bytes))?;
        }
        Ok(OnnxReport { path, bytes: bytes.len(), opset: onnx::OPSET, verified })
    }
}

/// The maximum number of items that an error names.
const NAMED: usize = 10;

/// Returns an error if too many labels differ.
fn accept(path: &Path, verified: &OnnxVerification, tolerance: f64) -> Result<()> {
    let (differing, items) = (verified.differing.len(), verified.items);
    if differing == 0 || differing as f64 <= tolerance * items as f64 {
        return Ok(());
    }
    let some = verified.differing.iter().take(NAMED);
    let some = some.map(|d| format!("{} ({} instead of {})", d.name, d.found, d.expected));
    let mut names = some.collect::<Vec<_>>().join(", ");
    if differing > NAMED {
        names.push_str(&format!(" and {} more", differing - NAMED));
    }
    let why = format!(
        "the labels of {differing} of {items} items differ between the file and the model: {names}. Outputs differ by at \
         most {:.1e} of {:.1e}. Nothing was written. `OnnxOptions::tolerance` allows a fraction of the labels to differ.",
        verified.largest_difference, verified.scale
    );
    Err(Error::export(path, why))
}

/// Returns the validation items, or if there are none, the training items with the transforms of
/// validation.
fn prepared_as_validation(t: &Training) -> DataLoader {
    match t.dls.valid().is_empty() {
        false => t.dls.valid().clone(),
        true => t.dls.train().with_split(Split::Valid),
    }
}

/// Returns the description of the model for the metadata of the file.
fn card(t: &Training, activation: bool) -> Result<ModelCard> {
    let opaque = |what: &dyn std::fmt::Debug| {
        Error::unsupported("export_onnx", format!("{what:?} is code, which a file cannot hold"))
    };
    let items = t.dls.item_tfms().iter().map(|f| f.spec().ok_or_else(|| opaque(f)));
    let items: Vec<ItemSpec> = items.collect::<Result<_>>()?;
    let batches = t.dls.batch_tfms().iter().map(|f| f.spec().ok_or_else(|| opaque(f)));
    let batches: Vec<BatchSpec> = batches.collect::<Result<_>>()?;
    let loss = t.loss.spec().ok_or_else(|| {
        let why = format!(
            "the loss `{}` is code, which a file cannot hold: let its `spec` name the loss of this \
             crate that decodes as it does",
            t.loss.name()
        );
        Error::unsupported("export_onnx", why)
    })?;
    let (kind, threshold) = match &loss {
        LossSpec::CrossEntropy(_)
        | LossSpec::LabelSmoothing(_)
        | LossSpec::Focal(_)
        | LossSpec::Dice(_) => (OutputActivation::Softmax, 0.5),
        LossSpec::BceWithLogits(loss) => (OutputActivation::Sigmoid, loss.threshold()),
        LossSpec::Bce(_) | LossSpec::Mse(_) | LossSpec::L1(_) | LossSpec::PointMse(_) => {
            (OutputActivation::None, 0.5)
        }
    };
    if matches!(t.dls.task(), Task::Boxes { .. }) {
        let why = "the decoding of boxes is code of the detector, which a file cannot hold: use \
                   `Model::export_onnx`";
        return Err(Error::unsupported("export_onnx", why));
    }
    let applied = activation && kind != OutputActivation::None;
    let output = NetworkOutput::new(kind, applied, threshold);
    let (task, decode) = (t.dls.task(), t.dls.decode_options());
    Ok(ModelCard::new(task, decode, items, batches, NetworkInput::Prepared, output))
}

/// Returns mean and standard deviation of each channel, if normalization is the only transform of a
/// validation batch.
fn normalization(
    t: &Training,
    loader: &DataLoader,
    item: usize,
) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
    if !loader.has_images() {
        let why = "`pixels` needs images, and the items are arrays";
        return Err(Error::unsupported("export_onnx", why));
    }
    let image = loader.sample(item, 0)?.image;
    let (size, channels) = ((image.width(), image.height()), image.channels());
    let mut rng = Seed(0).rng(Stream::Split);
    let plan = transform::plan(t.dls.batch_tfms(), 1, size, channels, Split::Valid, &mut rng)?;
    plan.only_normalization().ok_or_else(|| {
        let why = "`pixels` allows a normalization only, and the batch transforms do more to \
                   validation images: leave it out, or bring images to their size with `item_tfms`";
        Error::unsupported("export_onnx", why)
    })
}

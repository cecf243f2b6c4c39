//! A trained model loaded from one file, for inference.

use super::evaluate;
use crate::{
    data::ImageSource,
    error::{Error, Result},
    format::{Metadata, StateDict, read_safetensors, read_safetensors_bytes},
    image::{Decode, Image},
    learner::{
        Learner, Precision, Prediction, Training,
        files::{export::ExportOptions, weights},
    },
    loss::{Loss, LossSpec},
    model::{ArchSpec, Model},
    sample::{Placement, Sample, Task},
    sys::{self, KeptMemory, caught_tensor, share_processors},
    transform::{BatchSpec, ItemSpec},
};
use finetune_image::preparation::{Preparation, Prepared};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The description of the model in an exported file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Export {
    arch: ArchSpec,
    task: Task,
    loss: LossSpec,
    decode: Decode,
    item_tfms: Vec<ItemSpec>,
    batch_tfms: Vec<BatchSpec>,
}

pub(in crate::learner) fn export(t: &Training, path: &Path) -> Result<()> {
    let arch = t.model.spec().ok_or_else(|| {
        let why = "only architectures of this crate can be exported: use `save`, and \
                   build your model before `load`";
        Error::unsupported("export", why)
    })?;
    let opaque = |what: &dyn std::fmt::Debug| {
        Error::unsupported("export", format!("{what:?} is code and cannot be written to a file"))
    };
    let item_tfms = t.dls.item_tfms();
    let item_tfms =
        item_tfms.iter().map(|f| f.spec().ok_or_else(|| opaque(f))).collect::<Result<_>>()?;
    let batch_tfms = t.dls.batch_tfms();
    let batch_tfms =
        batch_tfms.iter().map(|f| f.spec().ok_or_else(|| opaque(f))).collect::<Result<_>>()?;
    let loss = t.loss.spec().ok_or_else(|| {
        let why = format!(
            "the loss `{}` is code and cannot be written to a file: let its `spec` name the loss of this \
             crate that decodes as it does",
            t.loss.name()
        );
        Error::unsupported("export", why)
    })?;
    let export = Export {
        arch: arch.clone(),
        task: t.dls.task(),
        loss,
        decode: t.dls.decode_options(),
        item_tfms,
        batch_tfms,
    };
    let export = serde_json::to_string(&export).map_err(Error::other)?;
    let about = weights::metadata(&[("kind", "export"), ("export", &export)]);
    weights::write(path, &t.model.state_dict(), about)
}

/// The default number of images per batch.
const BATCH: usize = 32;

/// A trained model for inference, without optimizer, loader or waiting threads. It can be sent to another
/// thread. On a CPU, it reuses the memory of one call for the next.
///
/// ```no_run
/// use finetune::{learner::Predictor, tch::Device};
///
/// let pets = Predictor::load("pets.safetensors", Device::Cpu)?;
/// let answer = pets.predict("cat.jpg")?;
/// println!("{} ({:.3})", answer.label, answer.probs[answer.index]);
/// for (label, p) in answer.top_k(3) {
///     println!("{p:.3} {label}");
/// }
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    task: Task,
    loss: Box<dyn Loss>,
    preparation: Preparation,
    batch_size: usize,
    precision: Precision,
    /// Keeps the memory of one call for the next; `None` on a GPU.
    _kept: Option<KeptMemory>,
}

impl Predictor {
    /// Reads a file written by [`Learner::export`](crate::learner::Learner::export).
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::Checkpoint`] if it is damaged, was not written by
    /// `export`, has another version, contains a transform that this crate does not know, or has weights
    /// that do not match its architecture.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let path = path.as_ref();
        sys::check_device(device)?;
        let (state, about) = read_safetensors(path)?;
        let broken = |why| Error::checkpoint(path, why);
        Self::assemble(&state, &about, device).map_err(broken)
    }

    /// As [`load`](Self::load), but from memory, for example from `include_bytes!`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8], device: Device) -> Result<Self> {
        let name = "the model in memory";
        sys::check_device(device)?;
        let (state, about) = read_safetensors_bytes(bytes, name)?;
        let broken = |why| Error::checkpoint(name, why);
        Self::assemble(&state, &about, device).map_err(broken)
    }

    fn assemble(state: &StateDict, about: &Metadata, device: Device) -> Result<Self, String> {
        let Some(export) = about.get("export") else {
            return Err(
                "was not written by `export`: it has weights, but no description of the model"
                    .into(),
            );
        };
        let version = about.get("finetune").map_or("none", String::as_str);
        if version != weights::VERSION {
            let ours = weights::VERSION;
            return Err(format!("has version {version}; this crate reads version {ours}"));
        }
        let export: Export =
            serde_json::from_str(export).map_err(|e| format!("its description: {e}"))?;
        let elements = state.iter().map(|(_, t)| t.numel()).sum();
        if !export.arch.can_have(state.len(), elements).map_err(|e| e.to_string())? {
            return Err("its description is of a larger model than its weights".into());
        }
        let preparation = Preparation::new(export.decode, &export.item_tfms, &export.batch_tfms);
        let preparation = preparation.map_err(|e| e.to_string())?;
        let outputs = export.task.n_out();
        let masks = matches!(export.task, Task::Mask { .. });
        if masks && export.loss.axis() != Some(1) {
            return Err("its loss does not expect the codes of masks along dimension 1".into());
        }
        if let Some(axis) = export.loss.axis().filter(|axis| ![-1, 1].contains(axis)) {
            return Err(format!("its loss expects classes along dimension {axis} of two"));
        }
        let mut model = export.arch.build_with(device, state).map_err(|e| e.to_string())?;
        model.channels_last();
        // A decoder ends with a convolution and a bias of the same length.
        let last = model.params().iter().rev().find(|p| match model.is_unet() {
            true => p.tensor.dim() == 4,
            false => p.tensor.dim() == 2,
        });
        if let Some(last) = last.filter(|l| l.tensor.size()[0] != outputs as i64) {
            let n = last.tensor.size()[0];
            return Err(format!("its model has {n} outputs for a vocabulary of {outputs}"));
        }
        share_processors();
        let kept = (device == Device::Cpu).then(KeptMemory::hold);
        Ok(Self {
            model,
            task: export.task,
            loss: export.loss.build(),
            preparation,
            batch_size: BATCH,
            precision: Precision::Full,
            _kept: kept,
        })
    }

    /// Sets the number of images per batch; larger batches need more memory. Default: 32.
    #[must_use]
    pub fn batch_size(mut self, n: usize) -> Self {
        self.batch_size = n;
        self
    }

    /// Predicts in bfloat16, in operations that libtorch considers safe, like a model that trains with
    /// [`Learner::to_bf16`]. Weights of convolutions and linear layers are rounded once, which halves their
    /// memory. Probabilities differ from those in 32 bits by some thousandths. Fast on processors and GPUs
    /// with bfloat16 instructions, slow on others. Default: 32-bit floats.
    #[must_use]
    pub fn to_bf16(mut self) -> Self {
        self.model.round_weights(Kind::BFloat16);
        self.precision = Precision::BFloat16;
        self
    }

    /// Returns the task, which defines the meaning of the outputs.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Predicts one image: a path, the bytes of an image file, or a decoded [`Image`].
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if the file cannot be read or decoded.
    pub fn predict(&self, image: impl Into<ImageSource>) -> Result<Prediction> {
        let prepared = self.preparation.sample(&image.into(), "image 0")?;
        let mut all = self.predict_prepared(vec![prepared], 0, &mut None)?;
        all.pop().ok_or_else(|| Error::config("predict", "the image produced no batch"))
    }

    /// Predicts many images, in order. They are decoded on all cores and predicted in batches of
    /// [`batch_size`](Self::batch_size), so memory use does not grow with their number.
    ///
    /// ```no_run
    /// # fn f(pets: &finetune::learner::Predictor, upload: Vec<u8>) -> finetune::Result<()> {
    /// use finetune::data::ImageSource;
    ///
    /// let answers = pets.predict_batch(["cat.jpg", "dog.jpg"])?;
    /// let mixed: [ImageSource; 2] = ["cat.jpg".into(), upload.into()];
    /// let answers = pets.predict_batch(mixed)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`predict`](Self::predict), naming the image; [`Error::Collate`] if sizes differ after the
    /// transforms; [`Error::Config`] if the batch size is 0.
    pub fn predict_batch<S: Into<ImageSource>>(
        &self,
        images: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Prediction>> {
        let n = self.at_once()?;
        let mut images = images.into_iter();
        let (mut all, mut first) = (vec![], None);
        loop {
            let few: Vec<ImageSource> = images.by_ref().take(n).map(Into::into).collect();
            if few.is_empty() {
                return Ok(all);
            }
            let (from, preparation) = (all.len(), &self.preparation);
            let prepared: Result<Vec<Sample>> = few
                .par_iter()
                .enumerate()
                .map(|(i, image)| preparation.sample(image, &format!("image {}", from + i)))
                .collect();
            all.extend(self.predict_prepared(prepared?, from, &mut first)?);
        }
    }

    /// Predicts a batch of tensors, `[N, C, H, W]`. Bytes are images with values from 0 to 255 and are
    /// prepared like files; floats are passed to the model unchanged, so they must have the right size and
    /// be normalized.
    ///
    /// # Errors
    /// [`Error::Config`] if `x` does not have four dimensions, or is of another kind; [`Error::Computation`] if the
    /// model does not accept it; for bytes, as [`predict_batch`](Self::predict_batch).
    pub fn predict_tensor(&self, x: &Tensor) -> Result<Vec<Prediction>> {
        let [n, channels, h, w] = x.size()[..] else {
            let why = format!("the shape of `x` is {:?}; it must be [N, C, H, W]", x.size());
            return Err(Error::config("predict_tensor", why));
        };
        if n == 0 {
            return Ok(vec![]);
        }
        if x.f_is_floating_point()? {
            return self.through(&x.f_to_kind(Kind::Float)?, &[], 0);
        }
        let kind = x.f_kind()?;
        if kind != Kind::Uint8 {
            let why = format!(
                "the kind of `x` is {kind:?}; it must be `Uint8`, for images with values from 0 to 255, or a \
                 float, for normalized inputs"
            );
            return Err(Error::config("predict_tensor", why));
        }
        let pixels = x.f_permute([0, 2, 3, 1])?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let pixels = pixels.f_reshape([n, -1])?;
        let images = (0..n).map(|i| {
            let pixels: Vec<u8> = Vec::try_from(pixels.f_get(i)?)?;
            Image::new(w as u32, h as u32, channels as u8, pixels)
        });
        self.predict_batch(images.collect::<Result<Vec<_>>>()?)
    }

    /// Returns the number of images per batch, which is at least 1.
    pub(super) fn at_once(&self) -> Result<usize> {
        match self.batch_size {
            0 => Err(Error::config("batch_size", "is 0; it must be 1 or more")),
            n => Ok(n),
        }
    }

    /// Decodes an image with the model's decoding options.
    pub(super) fn open(&self, image: &ImageSource) -> Result<Image> {
        self.preparation.open(image, "the image")
    }

    /// Predicts a chunk of images, the first of which has the number `from`. `first` is the size of all
    /// images, once it is known.
    fn predict_prepared(
        &self,
        samples: Vec<Sample>,
        from: usize,
        first: &mut Option<(u32, u32)>,
    ) -> Result<Vec<Prediction>> {
        let Some(image) = samples.first().map(|s| &s.image) else { return Ok(vec![]) };
        let (n, channels, its) = (samples.len(), image.channels(), (image.width(), image.height()));
        // Within a chunk, `batch` compares the sizes.
        let size = *first.get_or_insert(its);
        if its != size {
            return Err(Error::collate("image 0", size, format!("image {from}"), its));
        }
        let Prepared { plan, pixels, placements, .. } = self.preparation.batch(samples, from)?;
        let (w, h) = plan.output_size();
        let [n, c, h, w] = [n as i64, i64::from(channels), i64::from(h), i64::from(w)];
        let floats = plan.execute(&pixels, n > 1)?;
        let x = sys::tensor_lent(floats, &[n, c, h, w], &[h * w * c, 1, w * c, c], drop)?;
        let x = x.f_to_device(self.model.device())?;
        self.through(&plan.tensor_steps(x)?, &placements, from)
    }

    /// Predicts inputs of the model, the first of which has the number `from`.
    fn through(
        &self,
        x: &Tensor,
        placements: &[Option<Placement>],
        from: usize,
    ) -> Result<Vec<Prediction>> {
        let _guard = tch::no_grad_guard();
        let x = x.f_to_device(self.model.device())?;
        let device = self.model.device();
        let out = self.precision.run(device, || self.model.forward(&x, false))?;
        evaluate::check_numbers(&out, |i| format!("image {}", from + i))?;
        let activated = caught_tensor(|| self.loss.activation(&out))?;
        let size = evaluate::picture_size(&x);
        evaluate::predictions(&activated, &*self.loss, &self.task, size, placements)
    }
}

impl Learner {
    /// Writes a file for [`Predictor::load`]: weights, vocabulary and preprocessing, as data.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the model or a transform cannot be described as data;
    /// [`Error::NonFiniteWeights`] for weights that are NaN or infinite, unless
    /// [allowed](ExportOptions::allow_non_finite); [`Error::Io`] naming the file.
    pub fn export(&self, options: impl Into<ExportOptions>) -> Result<()> {
        let options = options.into();
        options.check(&self.training.model)?;
        if !self.training.is_first_rank() {
            return Ok(());
        }
        export(&self.training, options.path())
    }
}

//! A trained model in one file, and what serves it.

use super::{Prediction, Training, checkpoint, predict};
use crate::{
    error::{Error, Result},
    image::{Decode, Image},
    loss::{self, Loss},
    model::{ArchSpec, Model},
    sample::{Sample, Split, Target, Task},
    seed::{Seed, Stream},
    transform::{self, BatchSpec, BatchTransform, ItemSpec, ItemTransform},
};
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc};
use tch::{Device, Tensor};

/// What an exported file says of its weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Export {
    arch: ArchSpec,
    task: Task,
    loss: String,
    decode: Decode,
    item_tfms: Vec<ItemSpec>,
    batch_tfms: Vec<BatchSpec>,
}

pub(super) fn export(t: &Training, path: &Path) -> Result<()> {
    let arch = t.model.spec().ok_or_else(|| {
        let why = "only architectures of this crate can be described in a file: use `save`, and \
                   build your model before `load`";
        Error::config("export", why)
    })?;
    let opaque = |what: &dyn std::fmt::Debug| {
        Error::config("export", format!("{what:?} is code, which a file cannot hold"))
    };
    let item_tfms = t.dls.item_tfms();
    let item_tfms =
        item_tfms.iter().map(|f| f.spec().ok_or_else(|| opaque(f))).collect::<Result<_>>()?;
    let batch_tfms = t.dls.batch_tfms();
    let batch_tfms =
        batch_tfms.iter().map(|f| f.spec().ok_or_else(|| opaque(f))).collect::<Result<_>>()?;
    let export = Export {
        arch: arch.clone(),
        task: t.dls.task(),
        loss: t.loss.name().to_owned(),
        decode: t.dls.decode_options(),
        item_tfms,
        batch_tfms,
    };
    let export = serde_json::to_string(&export).map_err(Error::other)?;
    let about = checkpoint::metadata(&[("kind", "export"), ("export", &export)]);
    checkpoint::write(path, &t.model.state_dict(), about)
}

/// A trained model to predict with, and nothing to train it. It can be sent to another thread.
///
/// ```no_run
/// use finetune::{learner::Predictor, tch::Device};
///
/// let pets = Predictor::load("pets.safetensors", Device::Cpu)?;
/// let answer = pets.predict("cat.jpg")?;
/// println!("{} ({:.3})", answer.label, answer.probs[answer.index]);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    task: Task,
    loss: Box<dyn Loss + Send>,
    decode: Decode,
    item_tfms: Vec<Arc<dyn ItemTransform>>,
    batch_tfms: Vec<Arc<dyn BatchTransform>>,
}

impl Predictor {
    /// Reads what [`Learner::export`](super::Learner::export) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Checkpoint`] if it is no such file, is of
    /// another version, or its weights do not fit its architecture.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let path = path.as_ref();
        let (state, about) = checkpoint::read(path)?;
        let broken = |why: String| Error::Checkpoint { path: path.to_owned(), why };
        let version = about.get("finetune").map_or("none", String::as_str);
        let Some(export) = about.get("export") else {
            let why = "was not written by `export`: it has weights, but not what they are for";
            return Err(broken(why.into()));
        };
        if version != checkpoint::VERSION {
            let why = format!(
                "is of version {version}, and this crate reads version {}",
                checkpoint::VERSION
            );
            return Err(broken(why));
        }
        let export: Export =
            serde_json::from_str(export).map_err(|e| broken(format!("its description: {e}")))?;
        let mut model = export.arch.build(device, Seed(0))?;
        model.load_state_dict(&state).map_err(|e| broken(e.to_string()))?;
        let loss = loss::by_name(&export.loss).ok_or_else(|| {
            broken(format!(
                "it was trained with the loss `{}`, which has no name here",
                export.loss
            ))
        })?;
        Ok(Self {
            model,
            task: export.task,
            loss,
            decode: export.decode,
            item_tfms: export.item_tfms.iter().map(ItemSpec::build).collect(),
            batch_tfms: export.batch_tfms.iter().map(BatchSpec::build).collect(),
        })
    }

    /// What the outputs stand for.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// What the model says of one image file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if the file cannot be read or decoded.
    pub fn predict(&self, path: impl AsRef<Path>) -> Result<Prediction> {
        let image = self.decode.open(path)?;
        self.single(image)
    }

    /// What the model says of one image file in memory, of any format.
    ///
    /// # Errors
    /// [`Error::Image`] if the bytes cannot be decoded.
    pub fn predict_bytes(&self, bytes: &[u8]) -> Result<Prediction> {
        let image = self.decode.read(bytes, "the image in memory")?;
        self.single(image)
    }

    /// What the model says of decoded images, in one batch.
    ///
    /// # Errors
    /// [`Error::Collate`] if their sizes differ after the transforms.
    pub fn predict_images(&self, images: Vec<Image>) -> Result<Vec<Prediction>> {
        if images.is_empty() {
            return Ok(vec![]);
        }
        let mut rng = Seed(0).rng(Stream::Split); // validation transforms do not depend on draws
        let mut prepared: Vec<Image> = Vec::with_capacity(images.len());
        for image in images {
            let mut sample = Sample { image, target: Target::None };
            for tfm in &self.item_tfms {
                sample = tfm.apply(sample, Split::Valid, &mut rng)?;
            }
            prepared.push(sample.image);
        }
        let size = (prepared[0].width(), prepared[0].height());
        if let Some(k) = prepared.iter().position(|i| (i.width(), i.height()) != size) {
            return Err(Error::Collate {
                first: "image 0".into(),
                first_size: size,
                other: format!("image {k}"),
                other_size: (prepared[k].width(), prepared[k].height()),
            });
        }
        let channels = prepared[0].channels();
        let n = prepared.len();
        let plan = transform::plan(&self.batch_tfms, n, size, channels, Split::Valid, &mut rng)?;
        let pixels: Vec<u8> = prepared.into_iter().flat_map(Image::into_pixels).collect();
        let (w, h) = plan.output_size();
        let shape = [n as i64, i64::from(h), i64::from(w), i64::from(channels)];
        let x = Tensor::f_from_slice(&plan.execute(&pixels, false)?)?.f_view(shape)?;
        let x = plan.tensor_steps(x.permute([0, 3, 1, 2]).to_device(self.model.device()))?;
        let _guard = tch::no_grad_guard();
        let preds = self.loss.activation(&self.model.forward(&x, false));
        predict::one(&preds, &*self.loss, &self.task)
    }

    fn single(&self, image: Image) -> Result<Prediction> {
        let mut all = self.predict_images(vec![image])?;
        all.pop().ok_or_else(|| Error::config("predict", "the image made no batch"))
    }
}

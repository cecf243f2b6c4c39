use crate::{
    error::{Error, Result},
    learner::{
        Callback, Position, Precision, Step, Training, files::weights, order, recorder_number,
    },
    loss::{Loss, LossSpec},
    model::{ArchSpec, Model},
    sample::Batch,
    seed::{Seed, Stream},
    sys::caught_tensor,
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// Ends the fit if the training loss is NaN or infinite, and writes the state to one safetensors file: the
/// batch as passed to the model, its files, the weights before the step, the loss scale and the position.
/// [`NanReport`] reads it, and `examples/replay_nan.rs` replays it.
///
/// A learner also ends such a fit without this callback. This callback checks before the step changes the
/// weights, and therefore waits for the device at every batch.
#[derive(Debug)]
pub struct NanGuard {
    path: PathBuf,
    /// The loss of this batch if it is NaN or infinite.
    found: Option<f64>,
}

impl NanGuard {
    /// Creates a callback that writes to `path` if the loss is NaN or infinite.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), found: None }
    }

    fn write(&self, t: &Training, batch: &Batch, loss: f64) -> Result<()> {
        let mut tensors = vec![("x".to_owned(), batch.x.shallow_clone())];
        tensors.extend(batch.y.as_ref().map(|y| ("y".to_owned(), y.shallow_clone())));
        let weights = t.model.state_dict().into_iter();
        tensors.extend(weights.map(|(n, w)| (format!("model.{n}"), w)));
        let about = About {
            loss: loss.to_string(),
            loss_name: t.loss.name().to_owned(),
            loss_spec: t.loss.spec(),
            loss_scale: t.notes.get("MixedPrecision").and_then(|n| n["scale"].as_f64()),
            precision: t.precision,
            at: t.at,
            seed: t.seed.0,
            items: batch.items.clone(),
            files: batch.items.iter().map(|&i| t.dls.name(i)).collect(),
            arch: t.model.spec().cloned(),
        };
        let about = serde_json::to_string(&about).map_err(Error::other)?;
        let about = weights::metadata(&[("kind", "nan"), ("nan", &about)]);
        weights::write(&self.path, &tensors, about)
    }
}

impl NanGuard {
    /// Ends the fit if any process found a NaN or infinite loss.
    fn decide(&mut self, t: &Training, rank: Option<usize>) -> Step {
        let (Some(_), loss) = (rank, self.found.take().unwrap_or(f64::NAN)) else {
            return Ok(());
        };
        Err(Error::non_finite_loss(loss, t.at.epoch, t.at.batch).into())
    }
}

impl Callback for NanGuard {
    fn order(&self) -> i32 {
        order::NAN_GUARD
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn after_loss(&mut self, t: &mut Training, batch: &Batch, loss: &mut Tensor) -> Step {
        if !t.at.is_training() {
            return Ok(());
        }
        let loss = f64::from(recorder_number(loss)?);
        if loss.is_finite() {
            return Ok(());
        }
        self.write(t, batch, loss)?;
        t.say(format!("the batch whose loss is {loss} is in {}", self.path.display()));
        self.found = Some(loss);
        if t.is_alone() { self.decide(t, Some(0)) } else { Ok(()) }
    }

    fn before_step(&mut self, t: &mut Training) -> Step {
        // Gradients are averaged over all processes: if one is NaN, all are, so all end.
        let rank = t.first_rank_where(self.found.is_some())?;
        self.decide(t, rank)
    }
}

/// The metadata of the file of a [`NanGuard`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About {
    /// The loss as text, since JSON has no NaN.
    loss: String,
    loss_name: String,
    loss_spec: Option<LossSpec>,
    loss_scale: Option<f64>,
    precision: Precision,
    at: Position,
    seed: u64,
    items: Vec<usize>,
    files: Vec<String>,
    arch: Option<ArchSpec>,
}

/// The content of the file of a [`NanGuard`].
#[derive(Debug)]
#[non_exhaustive]
pub struct NanReport {
    /// The batch as passed to the model.
    pub batch: Batch,
    /// The names of the items of the batch: their files.
    pub files: Vec<String>,
    /// The loss: NaN or infinite.
    pub loss: f64,
    /// The loss scale; `None` without [`MixedPrecision`](crate::learner::MixedPrecision).
    pub loss_scale: Option<f64>,
    /// The position of the training.
    pub at: Position,
    /// The number format of the forward pass.
    pub precision: Precision,
    /// The weights before the step, by name.
    pub weights: Vec<(String, Tensor)>,
    about: About,
}

impl NanReport {
    /// Reads the file written by a [`NanGuard`].
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Checkpoint`] if it was not written by a [`NanGuard`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let broken = |why: String| Error::checkpoint(path, why);
        let (tensors, about) = weights::read(path)?;
        let about =
            about.get("nan").ok_or_else(|| broken("was not written by `NanGuard`".into()))?;
        let about: About =
            serde_json::from_str(about).map_err(|e| broken(format!("its description: {e}")))?;
        let (mut x, mut y, mut weights) = (None, None, vec![]);
        for (name, tensor) in tensors {
            match (name.as_str(), name.strip_prefix("model.")) {
                ("x", _) => x = Some(tensor),
                ("y", _) => y = Some(tensor),
                (_, Some(own)) => weights.push((own.to_owned(), tensor)),
                _ => return Err(broken(format!("`{name}` is unexpected"))),
            }
        }
        let x = x.ok_or_else(|| broken("has no batch".into()))?;
        Ok(Self {
            batch: Batch::new(x, y, about.items.clone()),
            files: about.files.clone(),
            loss: about.loss.parse().unwrap_or(f64::NAN),
            loss_scale: about.loss_scale,
            at: about.at,
            precision: about.precision,
            weights,
            about,
        })
    }

    /// Returns the model before the step, on the CPU.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the network is not of this crate: build it yourself and load
    /// [`NanReport::weights`].
    pub fn model(&self) -> Result<Model> {
        let Some(arch) = &self.about.arch else {
            let why = "the network is your own: build it, load `weights`, and use `losses`";
            return Err(Error::unsupported("NanReport::model", why));
        };
        let mut model = arch.build(Device::Cpu, Seed(self.about.seed))?;
        model.load_state_dict(&self.weights)?;
        Ok(model)
    }

    /// Returns the loss of the run, with its options.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the loss is not of this crate.
    pub fn loss_func(&self) -> Result<Box<dyn Loss>> {
        let Some(spec) = &self.about.loss_spec else {
            let name = &self.about.loss_name;
            let why = format!("`{name}` is not a loss of this crate: use your own");
            return Err(Error::unsupported("NanReport::loss_func", why));
        };
        Ok(spec.build())
    }

    /// Returns the loss of each item of the batch, from a forward pass as in training: with batch
    /// statistics and the same dropout, in fp32.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the batch has no targets; errors of the model and the loss.
    pub fn losses(&self, model: &Model, loss: &dyn Loss) -> Result<Vec<f32>> {
        let Some(y) = &self.batch.y else {
            return Err(Error::unsupported("NanReport::losses", "the batch has no targets"));
        };
        let _guard = tch::no_grad_guard();
        let stream = Stream::Step { step: self.at.step };
        tch::manual_seed(Seed(self.about.seed).rng(stream).next_u64() as i64);
        let pred = model.forward(&self.batch.x, true)?;
        let each = caught_tensor(|| loss.each(&pred, y))?;
        Ok(Vec::try_from(&each.f_to_kind(tch::Kind::Float)?.f_contiguous()?.f_view([-1])?)?)
    }
}

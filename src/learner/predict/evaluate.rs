//! Predictions for many items, in host memory.

use crate::{
    data::{DataLoader, ImageSource, LoaderOptions},
    error::{Error, Result},
    image::Image,
    learner::{
        Callback, Learner, Outcome, Step, Training,
        record::recorder::Recorder,
        training::{epochs, state::Run},
    },
    loss::Loss,
    sample::{Batch, Placement, Target, Task, spatial_targets},
    sys::{caught, caught_tensor},
    transform,
};
use finetune_image::prediction::{PixelProbs, Prediction};
use ndarray::{Array2, ArrayD, Ix4, IxDyn};
use tch::{Device, Kind, Tensor};

/// The predictions for the items of a loader, in the loader's order, in host memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Predictions {
    /// The indices of the items in their data set.
    pub items: Vec<usize>,
    /// The outputs after the loss's activation, `[items, outputs]`: probabilities for categories. For
    /// masks, the mean of the probabilities of all pixels.
    pub preds: Array2<f32>,
    /// The targets; [`Target::None`] for items without a label.
    pub targets: Vec<Target>,
    /// The decoded predictions.
    pub decoded: Vec<Target>,
    /// The loss of each item; empty if the items have no labels.
    pub losses: Vec<f32>,
    /// The task, which defines the meaning of the outputs.
    pub task: Task,
    /// The inputs of the model, `[N, C, H, W]`, if [`PredictOptions::inputs`] is set.
    pub inputs: Option<ArrayD<f32>>,
    /// The outputs for each pixel of masks, `[N, C, H, W]`, if [`PredictOptions::pixels`] is set.
    pub pixels: Option<ArrayD<f32>>,
    /// The position of each network input in its original image, if known. It maps points and masks of
    /// `targets` and `decoded` back to the original image. Empty for predictions computed elsewhere.
    pub placements: Vec<Option<Placement>>,
}

impl Predictions {
    /// Returns predictions that were computed elsewhere; `losses` is empty if there are no labels.
    #[must_use]
    pub fn new(
        items: Vec<usize>,
        preds: Array2<f32>,
        targets: Vec<Target>,
        decoded: Vec<Target>,
        losses: Vec<f32>,
        task: Task,
    ) -> Self {
        Self {
            items,
            preds,
            targets,
            decoded,
            losses,
            task,
            inputs: None,
            pixels: None,
            placements: vec![],
        }
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns true if there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Options of predictions: the arguments of fastai's
/// [`get_preds`](https://docs.fast.ai/learner.html#learner.get_preds), for
/// [`Learner::get_preds_with`].
///
/// ```no_run
/// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
/// use finetune::learner::PredictOptions;
///
/// let new = learn.dls().test_dl(["a.jpg", "b.jpg"])?;
/// let logits = learn.get_preds_with(&PredictOptions::new().on(&new).activation(false))?.preds;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PredictOptions {
    loader: Option<DataLoader>,
    inputs: bool,
    activation: bool,
    pixels: bool,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self { loader: None, inputs: false, activation: true, pixels: false }
    }
}

impl PredictOptions {
    /// Returns options to predict the validation items without keeping their inputs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets the loader. All its items are predicted with its transforms, in the order of its data set, even if
    /// the loader shuffles or drops the last batch. Default: the validation items.
    #[must_use]
    pub fn on(mut self, loader: &DataLoader) -> Self {
        self.loader = Some(loader.clone());
        self
    }
    /// If true, keeps the inputs of the model. Default: false.
    #[must_use]
    pub fn inputs(mut self, yes: bool) -> Self {
        self.inputs = yes;
        self
    }
    /// If true, keeps the outputs for all pixels of masks, as `[N, C, H, W]` floats. Default: false.
    #[must_use]
    pub fn pixels(mut self, yes: bool) -> Self {
        self.pixels = yes;
        self
    }
    /// If true, the loss's activation, such as softmax, is applied to the outputs. Predictions are always
    /// decoded from activated outputs. Default: true.
    #[must_use]
    pub fn activation(mut self, yes: bool) -> Self {
        self.activation = yes;
        self
    }
}

impl Learner {
    /// Returns the loss and the metrics over the validation items, with the column names of the table. The
    /// history does not change.
    ///
    /// # Errors
    /// Errors of the data, a metric or a callback.
    pub fn validate(&mut self) -> Result<Vec<(String, Option<f64>)>> {
        let valid = self.training.dls.valid().clone();
        self.validate_on(&valid)
    }

    /// Returns the loss and the metrics over the items of any loader, with the column names of the table.
    /// Transforms, order and last batch are the loader's.
    ///
    /// # Errors
    /// Errors of the data, a metric or a callback.
    pub fn validate_on(&mut self, loader: &DataLoader) -> Result<Vec<(String, Option<f64>)>> {
        let mut recorder = Recorder::new();
        let before = std::mem::take(&mut self.training.history);
        let done = self.evaluate(vec![&mut recorder], loader, self.training.at.pass, false);
        let validated = std::mem::replace(&mut self.training.history, before);
        done?;
        let values = validated.rows.into_iter().next().unwrap_or_default().values;
        Ok(validated.names.into_iter().zip(values).skip(1).collect())
    }

    /// Predicts the validation items, with targets and losses.
    ///
    /// # Errors
    /// Errors of the data or a callback.
    pub fn get_preds(&mut self) -> Result<Predictions> {
        self.get_preds_with(&PredictOptions::new())
    }

    /// Predicts all items of `loader`, in the order of its data set.
    ///
    /// # Errors
    /// Errors of the data or a callback.
    pub fn get_preds_on(&mut self, loader: &DataLoader) -> Result<Predictions> {
        self.get_preds_with(&PredictOptions::new().on(loader))
    }

    /// Predicts all items of a loader. The callbacks of the learner see the batches as in a validation,
    /// except those that skip evaluation; the history does not change.
    ///
    /// # Errors
    /// Errors of the data or a callback.
    pub fn get_preds_with(&mut self, what: &PredictOptions) -> Result<Predictions> {
        let pass = self.training.at.pass;
        self.gather(what, pass)
    }

    /// As [`Learner::get_preds_with`], with the random draws of the given pass if the loader augments.
    pub(in crate::learner) fn gather(
        &mut self,
        what: &PredictOptions,
        pass: u64,
    ) -> Result<Predictions> {
        let loader = what.loader.as_ref().unwrap_or_else(|| self.training.dls.valid());
        let every = LoaderOptions::new().shuffle(false).drop_last(false);
        let loader = loader.subset(loader.items())?.with(every)?;
        let mut gathered = Gather::new(what);
        self.evaluate(vec![&mut gathered], &loader, pass, what.inputs)?;
        let name = |item| caught(|| Ok(loader.dataset().name(item))).unwrap_or_default();
        gathered.predictions(loader.task(), name)
    }

    /// Runs `loader` without training; position and random streams are unchanged.
    fn evaluate(
        &mut self,
        lent: Vec<&mut dyn Callback>,
        loader: &DataLoader,
        pass: u64,
        gather_inputs: bool,
    ) -> Result<()> {
        let Self { training, progress, callbacks: kept, .. } = self;
        let at = training.at;
        let mut all: Vec<&mut dyn Callback> = vec![];
        let kept = kept.iter_mut().filter(|c| !c.skip_evaluation());
        all.extend(kept.map(|c| &mut **c as &mut dyn Callback));
        all.extend(lent.into_iter().map(|c| c as &mut dyn Callback));
        all.extend(progress.as_mut().map(|p| p as &mut dyn Callback));
        training.run = Run::Evaluation;
        let done = epochs::evaluate(training, all, loader, pass, gather_inputs);
        (training.at, training.run) = (at, Run::Fit);
        done
    }

    /// Predicts one image, prepared like a validation item. The image is a path, the bytes of a file, or an
    /// [`Image`].
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if it cannot be read or decoded; [`Error::Unsupported`] if the data of the
    /// learner are arrays; errors of a callback.
    pub fn predict(&mut self, image: impl Into<ImageSource>) -> Result<Prediction> {
        Ok(self.predict_with_input(image)?.1)
    }

    /// As [`Learner::predict`], and also returns the network's input as an image: after all transforms,
    /// without normalization. fastai's `predict(..., with_input=True)`.
    ///
    /// # Errors
    /// As [`Learner::predict`].
    pub fn predict_with_input(
        &mut self,
        image: impl Into<ImageSource>,
    ) -> Result<(Image, Prediction)> {
        let loader = self.training.dls.test_dl([image.into()])?;
        let masks = matches!(self.training.dls.task(), Task::Mask { .. });
        let what = PredictOptions::new().on(&loader).inputs(true).pixels(masks);
        // A single process may predict alone, for example as a server.
        let parallel = self.training.parallel.take();
        let said = self.get_preds_with(&what);
        self.training.parallel = parallel;
        let said = said?;
        let none = || Error::config("predict", "the image produced no batch");
        let inputs = said.inputs.as_ref().ok_or_else(none)?;
        let outputs = match &said.pixels {
            Some(pixels) => pixels.clone(),
            None => said.preds.clone().into_dyn(),
        };
        let shape: Vec<i64> = outputs.shape().iter().map(|n| *n as i64).collect();
        let flat: Vec<f32> = outputs.iter().copied().collect();
        let activated = Tensor::f_from_slice(&flat)?.f_view(&shape[..])?;
        let size = match inputs.shape() {
            [_, _, h, w] => (*w as u32, *h as u32),
            _ => (2, 2),
        };
        let loss = &*self.training.loss;
        let all = predictions(&activated, loss, &said.task, size, &said.placements)?;
        let prediction = all.into_iter().next().ok_or_else(none)?;
        Ok((picture(&loader, inputs)?, prediction))
    }
}

/// Converts the first input to an image. As in fastai, levels are truncated, not rounded.
fn picture(loader: &DataLoader, inputs: &ArrayD<f32>) -> Result<Image> {
    let shape: Vec<i64> = inputs.shape().iter().map(|n| *n as i64).collect();
    let flat: Vec<f32> = inputs.iter().copied().collect();
    let x = Tensor::f_from_slice(&flat)?.f_view(&shape[..])?;
    let (_, c, h, w) = x.size4()?;
    let x = transform::denormalize(loader.batch_tfms(), &x)?.f_mul_scalar(255.0)?;
    let rows = x.f_get(0)?.f_permute([1, 2, 0])?.f_to_kind(Kind::Uint8)?.f_contiguous()?;
    Image::new(w as u32, h as u32, c as u8, Vec::try_from(&rows.f_view([-1])?)?)
}

/// Collects the outputs of a model batch by batch: fastai's `GatherPredsCallback`.
#[derive(Debug, Default)]
struct Gather {
    keep_inputs: bool,
    keep_pixels: bool,
    activation: bool,
    items: Vec<usize>,
    inputs: Vec<Tensor>,
    preds: Vec<Tensor>,
    pixels: Vec<Tensor>,
    /// Whether the outputs of each item are finite, before the activation, which could hide it, and after it.
    finite: Vec<Tensor>,
    losses: Vec<f32>,
    targets: Vec<Target>,
    decoded: Vec<Target>,
    placements: Vec<Option<Placement>>,
}

impl Gather {
    fn new(what: &PredictOptions) -> Self {
        Self {
            keep_inputs: what.inputs,
            keep_pixels: what.pixels,
            activation: what.activation,
            ..Self::default()
        }
    }

    fn take(&mut self, t: &Training, batch: &Batch, pred: &Tensor) -> Result<()> {
        let task = t.dls.task();
        let size = picture_size(&batch.x);
        match &batch.y {
            Some(y) => {
                self.losses.extend(floats(&t.loss_of_each(pred, y)?)?);
                self.targets.extend(decode(y, batch.labels.as_ref(), &task, size)?);
            }
            None => self.targets.extend(batch.items.iter().map(|_| Target::None)),
        }
        let activated = caught_tensor(|| t.loss.activation(pred))?;
        let decoded = caught_tensor(|| t.loss.decode(&activated))?;
        self.decoded.extend(decode(&decoded, None, &task, size)?);
        let kept = if self.activation { activated } else { pred.shallow_clone() };
        // The values of all pixels of all masks might not fit into memory.
        if self.keep_pixels {
            self.pixels.push(kept.to_device(Device::Cpu));
        }
        let kept = match task {
            Task::Mask { .. } => kept.f_mean_dim([2_i64, 3].as_slice(), false, Kind::Float)?,
            _ => kept,
        };
        let finite = finite(pred)?.f_logical_and(&finite(&kept)?)?;
        self.finite.push(finite.to_device(Device::Cpu));
        self.preds.push(kept.to_device(Device::Cpu));
        let placements = batch.items.iter().enumerate();
        let placements = placements.map(|(i, _)| batch.placements.get(i).cloned().flatten());
        self.placements.extend(placements);
        if self.keep_inputs {
            self.inputs.push(batch.x.to_device(Device::Cpu).to_kind(Kind::Float));
        }
        self.items.extend(&batch.items);
        Ok(())
    }

    /// Returns the collected predictions; `name` returns the name of an item.
    fn predictions(self, task: Task, name: impl Fn(usize) -> String) -> Result<Predictions> {
        let all = match self.preds.is_empty() {
            true => Tensor::f_zeros([0, task.n_out() as i64], (Kind::Float, Device::Cpu))?,
            false => Tensor::f_cat(&self.preds, 0)?,
        };
        let name = |i: usize| name(self.items.get(i).copied().unwrap_or(i));
        if !self.finite.is_empty() {
            check_finite(&Tensor::f_cat(&self.finite, 0)?, name)?;
        }
        let preds = rows(&all)?;
        let inputs = match self.keep_inputs && !self.inputs.is_empty() {
            true => Some(array(&Tensor::f_cat(&self.inputs, 0)?)?),
            false => None,
        };
        let pixels = match self.pixels.is_empty() {
            true => None,
            false => Some(array(&Tensor::f_cat(&self.pixels, 0)?)?),
        };
        let Self { items, targets, decoded, losses, placements, .. } = self;
        let new = Predictions::new(items, preds, targets, decoded, losses, task);
        Ok(Predictions { inputs, pixels, placements, ..new })
    }
}

impl Callback for Gather {
    fn name(&self) -> &str {
        "get_preds"
    }

    fn order(&self) -> i32 {
        i32::MAX
    }

    fn after_batch(&mut self, t: &mut Training, batch: &Batch, outcome: &Outcome) -> Step {
        if let Some(pred) = &outcome.pred {
            self.take(t, batch, pred)?;
        }
        Ok(())
    }
}

/// Returns an error if an output is infinite or NaN, since no probabilities can be derived from it. `name`
/// returns the name of an item.
pub(in crate::learner) fn check_numbers(
    outputs: &Tensor,
    name: impl Fn(usize) -> String,
) -> Result<()> {
    check_finite(&finite(outputs)?, name)
}

/// Returns for each item whether all of its outputs are finite.
fn finite(outputs: &Tensor) -> Result<Tensor> {
    let n = outputs.size().first().copied().unwrap_or(0);
    if n == 0 || outputs.numel() == 0 {
        return Ok(Tensor::f_ones([n], (Kind::Bool, outputs.device()))?);
    }
    Ok(outputs.f_isfinite()?.f_reshape([n, -1])?.f_all_dim(1, false)?)
}

/// Returns an error that counts the items whose outputs are not finite, and names the first.
fn check_finite(each: &Tensor, name: impl Fn(usize) -> String) -> Result<()> {
    if bool::try_from(each.f_all()?)? {
        return Ok(());
    }
    let each: Vec<i64> = Vec::try_from(each.f_to_kind(Kind::Int64)?.f_to_device(Device::Cpu)?)?;
    let which: Vec<usize> = (0..each.len()).filter(|i| each[*i] == 0).collect();
    let first = which.first().map_or_else(String::new, |i| name(*i));
    let why = format!(
        "the model's outputs are infinite or NaN for {} of {} items, the first of which is {first}: check the \
         weights with `Model::check_finite`, and check the items",
        which.len(),
        each.len()
    );
    Err(Error::computation(|| "the prediction".to_owned())(Error::other(why)))
}

fn floats(t: &Tensor) -> Result<Vec<f32>> {
    let flat = t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    Ok(Vec::try_from(&flat)?)
}

/// Converts a tensor to an array of the same shape.
fn array(t: &Tensor) -> Result<ArrayD<f32>> {
    let shape: Vec<usize> = t.size().iter().map(|n| *n as usize).collect();
    let flat = floats(t)?;
    Ok(ArrayD::from_shape_vec(IxDyn(&shape), flat).expect("as many numbers as the shape says"))
}

/// Converts a tensor of predictions to `[items, outputs]`.
pub(in crate::learner) fn rows(preds: &Tensor) -> Result<Array2<f32>> {
    let Some(&n) = preds.size().first() else {
        return Err(Error::mismatch("model", "its output is a single number, not one per item"));
    };
    let outputs = if n == 0 { preds.size().get(1).copied().unwrap_or(1) } else { -1 };
    let preds = preds.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([n, outputs])?;
    let shape = (n as usize, preds.size()[1] as usize);
    let flat = floats(&preds)?;
    Ok(Array2::from_shape_vec(shape, flat).expect("as many numbers as the shape says"))
}

/// Decodes predictions or targets.
pub(in crate::learner) fn decode(
    decoded: &Tensor,
    labels: Option<&Tensor>,
    task: &Task,
    size: (u32, u32),
) -> Result<Vec<Target>> {
    if let Some(targets) = spatial_targets(decoded, labels, task, size)? {
        return Ok(targets);
    }
    let all = rows(decoded)?;
    let target = |row: ndarray::ArrayView1<'_, f32>| match task {
        Task::Category { .. } => Target::Category(row[0] as usize),
        Task::Categories { .. } => {
            let set = row.iter().enumerate().filter(|(_, v)| **v > 0.5);
            Target::Categories(set.map(|(i, _)| i).collect())
        }
        Task::Values { .. } => Target::Values(row.to_vec()),
        // Masks, points and boxes are decoded above.
        _ => Target::None,
    };
    Ok(all.rows().into_iter().map(target).collect())
}

/// Returns the width and height of the images of a batch; 2 if there are none.
pub(in crate::learner) fn picture_size(x: &Tensor) -> (u32, u32) {
    match x.size()[..] {
        [_, _, h, w] => (w as u32, h as u32),
        _ => (2, 2),
    }
}

/// Decodes the activated outputs of each item, in pixels of its original image if `placements` contain its
/// position.
pub(in crate::learner) fn predictions(
    activated: &Tensor,
    loss: &dyn Loss,
    task: &Task,
    size: (u32, u32),
    placements: &[Option<Placement>],
) -> Result<Vec<Prediction>> {
    let place = |i: usize| {
        let known = placements.get(i).cloned().flatten();
        known.unwrap_or_else(|| Placement::whole(size))
    };
    if let Task::Mask { .. } = task {
        let all = array(activated)?;
        let all = all.into_dimensionality::<Ix4>().map_err(|e| {
            Error::mismatch("predict", format!("masks need outputs of shape [N, C, H, W]: {e}"))
        })?;
        let one = |(i, probs): (usize, ndarray::ArrayView3<'_, f32>)| {
            let pixels = PixelProbs { probs: probs.to_owned(), placement: place(i) };
            let mask = Target::Mask(pixels.mask()?);
            let means = probs.outer_iter().map(|code| code.mean().unwrap_or(0.0)).collect();
            Ok(Prediction::new(means, mask, task).with_pixels(pixels))
        };
        return all.outer_iter().enumerate().map(one).collect();
    }
    let decoded = decode(&caught_tensor(|| loss.decode(activated))?, None, task, size)?;
    let all = rows(activated)?;
    let one = |(i, (row, target)): (usize, (ndarray::ArrayView1<'_, f32>, Target))| {
        Prediction::new(row.to_vec(), original(target, &place(i)), task)
    };
    Ok(all.rows().into_iter().zip(decoded).enumerate().map(one).collect())
}

/// Maps points of a network input to points of the original image.
fn original(target: Target, placement: &Placement) -> Target {
    let Target::Points(mut points) = target else { return target };
    for point in points.iter_mut().filter(|p| p.visible) {
        let (x, y) = placement.to_original(point.x.into(), point.y.into());
        (point.x, point.y) = (x as f32, y as f32);
    }
    Target::Points(points)
}

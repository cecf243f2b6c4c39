//! Learners for images from an architecture.

use super::{Defaults, Learner, OptFunc};
use crate::{
    data::DataLoaders,
    error::{Error, Result},
    loss::{self, Loss},
    metric::Metric,
    model::{Arch, ArchSpec, HeadOptions, Param, UnetOptions, WeightsFrom},
    optim::{Adam, Lr, Optimizer},
    sample::Task,
    sys::caught,
    transform::normalization,
};
use tch::nn::{ModuleT, Path};

/// Builds a head at a variable path, for a number of features and of outputs.
type MakeHead = Box<dyn Fn(&Path<'_>, i64, i64) -> Result<Box<dyn ModuleT>> + Send>;

/// Builder of a [`Learner`] for images; see [`vision_learner`].
#[derive(derive_more::Debug)]
pub struct VisionLearner {
    dls: DataLoaders,
    arch: Arch,
    metrics: Vec<Box<dyn Metric>>,
    loss: Option<Box<dyn Loss>>,
    pretrained: bool,
    weights: WeightsFrom,
    normalize: bool,
    head: Option<HeadOptions>,
    unet: Option<UnetOptions>,
    n_out: Option<usize>,
    own_classifier: bool,
    #[debug(skip)]
    custom_head: Option<MakeHead>,
    #[debug(skip)]
    opt_func: OptFunc,
    defaults: Defaults,
    grad_checkpointing: bool,
}

/// Returns the builder of a learner for images: the body of `arch` with a new head for the targets
/// of `dls`, in three parameter groups: fastai's
/// [`vision_learner`](https://docs.fast.ai/vision.learner.html#vision_learner).
///
/// Pretrained weights add the normalization that they were trained with, unless the loaders normalize already. The body
/// starts frozen.
#[must_use]
pub fn vision_learner(dls: DataLoaders, arch: Arch) -> VisionLearner {
    VisionLearner {
        dls,
        arch,
        metrics: vec![],
        loss: None,
        pretrained: true,
        weights: WeightsFrom::published(),
        normalize: true,
        head: None,
        unet: None,
        n_out: None,
        own_classifier: false,
        custom_head: None,
        opt_func: Box::new(|params| Optimizer::new(params, Adam::new())),
        defaults: Defaults::default(),
        grad_checkpointing: false,
    }
}

/// Returns the builder of a learner that predicts a code, or numbers, for each pixel: the body of `arch`
/// with a decoder. fastai's [`unet_learner`](https://docs.fast.ai/vision.learner.html#unet_learner).
///
/// It works with every architecture whose body has feature maps of decreasing size: all families of this crate
/// except the vision transformers ViT and EVA, for which [`VisionLearner::build`] returns an
/// [`Error::Unsupported`]. The decoder is built for the image size of `dls`; it is the last parameter group.
///
/// ```no_run
/// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
/// use finetune::{learner::unet_learner, metric::dice_multi, model::resnet34};
///
/// let mut learn = unet_learner(dls, resnet34()).metric(dice_multi()).build()?;
/// learn.fine_tune(5)?;
/// # Ok(()) }
/// ```
#[must_use]
pub fn unet_learner(dls: DataLoaders, arch: Arch) -> VisionLearner {
    VisionLearner { unet: Some(UnetOptions::default()), ..vision_learner(dls, arch) }
}

impl VisionLearner {
    /// Sets the options of the decoder of a [`unet_learner`]; its size is set to that of the images.
    /// Default: fastai's.
    #[must_use]
    pub fn unet(mut self, options: UnetOptions) -> Self {
        self.unet = Some(options);
        self
    }
    /// Sets the number of outputs of the model; for a [`unet_learner`], per pixel. Default: the number that the
    /// targets require.
    #[must_use]
    pub fn n_out(mut self, n_out: usize) -> Self {
        self.n_out = Some(n_out);
        self
    }
    /// Adds a metric.
    #[must_use]
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.push(Box::new(metric));
        self
    }
    /// Sets the loss. Default: depends on the targets, for example cross-entropy for categories.
    #[must_use]
    pub fn loss(mut self, loss: impl Loss + 'static) -> Self {
        self.loss = Some(Box::new(loss));
        self
    }
    /// If true, starts from pretrained weights. Default: true.
    #[must_use]
    pub fn pretrained(mut self, yes: bool) -> Self {
        self.pretrained = yes;
        self
    }
    /// Sets the source of pretrained weights: a path, a URL, a model hub. Default: the published weights
    /// from PyTorch's cache, downloaded if necessary.
    ///
    /// A model that this crate exported or saved is also a valid path: its body is the starting point of
    /// another training, with other classes, another number of channels or another image size.
    #[must_use]
    pub fn weights(mut self, from: impl Into<WeightsFrom>) -> Self {
        self.weights = from.into();
        self
    }
    /// If true, adds the normalization that the pretrained weights were trained with, unless the batch transforms
    /// contain a [`Normalize`](crate::transform::Normalize). Default: true.
    #[must_use]
    pub fn normalize(mut self, yes: bool) -> Self {
        self.normalize = yes;
        self
    }
    /// Sets the options of the layers after the body. Default: fastai's.
    #[must_use]
    pub fn head(mut self, head: HeadOptions) -> Self {
        self.head = Some(head);
        self
    }
    /// If true, the body is followed by the network's own classifier, as timm and torchvision build it, instead
    /// of a head of fastai's: for example one linear layer for the class token, or for the normalized means of
    /// the channels. Excludes [`head`](Self::head) and [`custom_head`](Self::custom_head). Default: false.
    ///
    /// The classifier of the pretrained weights is loaded too if it has the same number of outputs, otherwise its
    /// last layer is new. [`Arch::dropout`] sets the dropout before it. [`Learner::probe`] needs a head of
    /// fastai's.
    ///
    /// ```no_run
    /// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
    /// use finetune::{learner::vision_learner, model::by_name};
    ///
    /// let arch = by_name("convnext_tiny.in12k_ft_in1k")?;
    /// let mut learn = vision_learner(dls, arch).own_classifier(true).build()?;
    /// learn.fine_tune(5)?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn own_classifier(mut self, yes: bool) -> Self {
        self.own_classifier = yes;
        self
    }
    /// Sets a head of your own, which takes the body's feature map. `make` receives the path of its
    /// variables, the number of features and the number of outputs; see
    /// [`ArchSpec::build_with_head`](crate::model::ArchSpec::build_with_head). Such a model cannot be
    /// exported.
    #[must_use]
    pub fn custom_head(
        mut self,
        make: impl Fn(&Path<'_>, i64, i64) -> Result<Box<dyn ModuleT>> + Send + 'static,
    ) -> Self {
        self.custom_head = Some(Box::new(make));
        self
    }
    /// Sets the optimizer. Default: Adam.
    #[must_use]
    pub fn opt_func(mut self, f: impl Fn(&[Param]) -> Result<Optimizer> + Send + 'static) -> Self {
        self.opt_func = Box::new(f);
        self
    }
    /// Sets the learning rate of fits that do not set one. Default: 1e-3.
    #[must_use]
    pub fn lr(mut self, lr: impl Into<Lr>) -> Self {
        self.defaults.lr = lr.into();
        self
    }
    /// Sets the weight decay of fits that do not set one. Default: the optimizer's.
    #[must_use]
    pub fn wd(mut self, wd: f64) -> Self {
        self.defaults.wd = Some(wd);
        self
    }

    /// If true, training needs less memory and about a third more time; see
    /// [`Model::grad_checkpointing`](crate::model::Model::grad_checkpointing). Results do not change, so a run
    /// can be resumed with another setting. Default: false.
    #[must_use]
    pub fn grad_checkpointing(mut self, yes: bool) -> Self {
        self.grad_checkpointing = yes;
        self
    }

    /// Sets layer-wise learning-rate decay: each block of the network is a parameter group, and the rate of
    /// a group is multiplied by `decay` once for every group after it. The head has the full rate and the
    /// stem the smallest one. Above 0 and at most 1, typically from 0.65 to 0.9. Default: none.
    ///
    /// The groups are those of [`Arch::split_layers`], unless the architecture has splits of your own. For
    /// timm's networks, rates and weight decay are then those of timm's `param_groups_layer_decay`, except for
    /// VGG and DenseNet, which have fewer groups here. Policies can set another decay. With a decay,
    /// `fine_tune` has an `lr_mult` of 1 by default. `lr_find` and freezing respect the groups and their rates.
    ///
    /// ```no_run
    /// # use finetune::prelude::*;
    /// # fn f(dls: DataLoaders) -> finetune::Result<()> {
    /// use finetune::model::by_name;
    ///
    /// let arch = by_name("vit_small_patch14_dinov2.lvd142m")?;
    /// let mut learn = vision_learner(dls, arch).layer_decay(0.75).build()?;
    /// learn.fine_tune(FineTune::new(5).base_lr(1e-3))?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn layer_decay(mut self, decay: f64) -> Self {
        self.defaults.layer_decay = Some(decay);
        self
    }

    /// Builds the learner. If the images are much smaller or larger than those that published weights are for, the
    /// first fit gives a message. Up to two items are run through the model, the loss and the metrics first, so
    /// that mistakes are found before the training.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an invalid option;
    /// [`Error::Unsupported`](crate::Error::Unsupported) if the network does not support a setting or the targets;
    /// [`Error::Download`](crate::Error::Download) or [`Error::Checkpoint`](crate::Error::Checkpoint) if
    /// the pretrained weights are not available or do not match;
    /// [`Error::Computation`](crate::Error::Computation) or [`Error::Mismatch`](crate::Error::Mismatch) if
    /// the model does not accept the images, or loss and metrics do not support the targets.
    pub fn build(mut self) -> Result<Learner> {
        let seed = self.dls.seed();
        let batch = self.dls.valid().one_batch().or_else(|_| self.dls.train().one_batch())?;
        let shape = batch.x.size();
        let n_in = shape.get(1).copied().unwrap_or(0) as usize;
        let task = self.dls.task();
        // Networks with position embeddings are built for one image size: that of the loaders.
        if let (Some(_), &[.., height, width]) = (self.arch.image_size_of_build(), shape.as_slice())
        {
            self.arch = self.arch.image_size(height, width);
        }
        if self.defaults.layer_decay.is_some() && self.arch.has_default_splits() {
            self.arch = self.arch.split_layers();
        }
        let n_out = self.n_out.unwrap_or(task.n_out());
        let unet = self.unet.is_some();
        suits(&task, unet, self.loss.is_some())?;
        self.check_ends()?;
        let spec = match self.unet {
            Some(options) => {
                let side = |i: usize| shape.get(i).copied().unwrap_or(1) as u32;
                let options = options.size_hw(side(2), side(3));
                ArchSpec::unet(&self.arch, n_in, n_out, options)
            }
            None if self.own_classifier => ArchSpec::classifier(&self.arch, n_in, n_out),
            None => ArchSpec::new(&self.arch, n_in, n_out, self.head.unwrap_or_default()),
        };
        let mut model = match self.custom_head {
            None => spec.build(self.dls.device(), seed)?,
            Some(make) => caught(|| spec.build_with_head(self.dls.device(), seed, make))?,
        };
        let mut advice = None;
        if self.pretrained {
            let normalize = model.load_pretrained_from(&self.weights)?;
            let normalizes = normalization(self.dls.batch_tfms()).is_some();
            if normalizes && self.normalize && self.weights.own_normalization().is_some() {
                let why = "the batch transforms normalize already: remove one of the two";
                return Err(Error::config("WeightsFrom::normalize", why));
            }
            if let Some(normalize) = normalize.filter(|_| self.normalize && !normalizes) {
                self.dls.add_batch_tfm(normalize.for_channels(n_in))?;
            }
            if self.weights.is_published() {
                advice = on_size(&self.arch, &shape);
            }
        }
        model.channels_last();
        model.grad_checkpointing(self.grad_checkpointing)?;
        let loss = self.loss.unwrap_or_else(|| loss::default_for(&task));
        let mut learner = Learner::assemble(self.dls, model, loss, self.opt_func)?;
        learner.training.metrics = self.metrics;
        learner.defaults = self.defaults;
        learner.advice = advice;
        learner.set_seed(seed);
        learner.training.try_out(&batch)?;
        if self.pretrained {
            learner.freeze();
        }
        Ok(learner)
    }

    /// Checks that at most one option sets the layers after the body.
    fn check_ends(&self) -> Result<()> {
        let options = [
            ("unet", self.unet.is_some()),
            ("own_classifier", self.own_classifier),
            ("custom_head", self.custom_head.is_some()),
            ("head", self.head.is_some()),
        ];
        let mut set = options.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
        let (Some(first), Some(second)) = (set.next(), set.next()) else { return Ok(()) };
        let why =
            format!("contradicts `{first}`: both set the layers after the body; use one of them");
        Err(Error::config(second, why))
    }
}

/// The ratio of the sizes of images from which a message is given.
const FAR: f64 = 2.5;

/// Returns a message if images of `shape`, `[N, C, H, W]`, are much smaller or larger than those of the published
/// weights.
fn on_size(arch: &Arch, shape: &[i64]) -> Option<String> {
    let (weights, &[.., height, width]) = (arch.weights()?, shape) else { return None };
    let [own_height, own_width] = weights.size;
    let ratio = height.min(width) as f64 / own_height.min(own_width) as f64;
    if (FAR.recip()..=FAR).contains(&ratio) {
        return None;
    }
    Some(format!(
        "the images are {height}×{width} pixels, but the weights `{}` of {} are for {own_height}×{own_width}: objects \
         differ in size from those that the network was trained with, which usually costs accuracy",
        weights.name,
        arch.name()
    ))
}

/// Checks that a model of this kind can learn the task.
fn suits(task: &Task, unet: bool, own_loss: bool) -> Result<()> {
    let why = match task {
        Task::Mask { .. } if !unet => "masks need outputs per pixel: use `unet_learner`",
        Task::Boxes { .. } if !own_loss => {
            "boxes need a detector with its own loss: build one with `Learner::new`"
        }
        Task::Mask { .. } | Task::Boxes { .. } => return Ok(()),
        _ if unet && !own_loss => {
            "the targets are not masks: use `vision_learner`, or set a `loss`"
        }
        _ => return Ok(()),
    };
    Err(Error::unsupported(if unet { "unet_learner" } else { "vision_learner" }, why))
}

//! Networks and their variables.

mod arch;
mod batch_norm;
mod body;
mod densenet;
mod efficientnet;
mod families;
mod head;
mod head_swap;
mod layers;
mod layout;
mod mobilenet;
mod net;
mod networks;
mod published;
mod recompute;
mod resample;
mod resnet;
mod source;
mod spec;
mod squeezenet;
mod switch;
mod torchscript;
mod unet;
mod vgg;
mod weights;
mod xresnet;
mod zoo;

pub use {
    arch::Arch,
    batch_norm::{BatchNorm, batch_norm1d, batch_norm2d},
    body::Children,
    head::{Head, HeadInit, HeadLayer, HeadOptions, adaptive_concat_pool2d},
    layers::Activation,
    layout::{fastai_name, fastai_unet_name},
    networks::{NetworkInfo, list},
    published::Weights,
    source::{WeightsFrom, read_weights},
    spec::ArchSpec,
    unet::{ConvNormKind, PixelShuffleIcnr, SelfAttention, UnetBlock, UnetOptions, icnr},
    weights::adapt_first_layer,
    zoo::{
        alexnet, all, by_name, densenet121, densenet161, densenet169, densenet201, efficientnet_b0,
        efficientnet_lite0, mobilenet_v3_large, mobilenet_v3_small, resnet18, resnet34, resnet50,
        resnet101, resnet152, resnext50_32x4d, resnext101_32x8d, resnext101_64x4d, squeezenet1_0,
        squeezenet1_1, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn,
        wide_resnet50_2, wide_resnet101_2, xresnet18, xresnet34, xresnet50,
    },
};

pub(crate) use head_swap::LinearHead;
pub(crate) use source::checkpoints;

use crate::{
    error::{Error, Result},
    sys::{self, caught_tensor},
};
use head::OwnHead;
use net::Net;
use std::collections::{BTreeMap, BTreeSet};
use tch::{
    Device, Tensor,
    nn::{ModuleT, VarStore},
};

/// The kind of a parameter, for the optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParamKind {
    /// A weight, with weight decay.
    Weight,
    /// A bias, without weight decay.
    Bias,
    /// A parameter of a normalization layer: no weight decay, and trainable in frozen groups too.
    Norm,
}

/// A parameter with the information that the optimizer needs. Exhaustive, so that users can create an
/// optimizer for tensors without a model.
#[derive(Debug)]
pub struct Param {
    /// The name in the model, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// The parameter itself: a handle to the model's memory.
    pub tensor: Tensor,
    /// The group, from 0 to 65,535; earlier layers first.
    pub group: usize,
    /// The kind.
    pub kind: ParamKind,
}

impl Clone for Param {
    /// Returns another handle to the same parameter.
    fn clone(&self) -> Self {
        let Self { name, tensor, group, kind } = self;
        Self { name: name.clone(), tensor: tensor.shallow_clone(), group: *group, kind: *kind }
    }
}

/// The largest number of parameter groups. Optimizers and schedules need memory for each group, even if it has no
/// parameters.
pub(crate) const MAX_GROUPS: usize = 1 << 16;

impl Param {
    /// Checks that the group is below [`MAX_GROUPS`].
    ///
    /// # Errors
    /// [`Error::Config`] naming the parameter.
    pub(crate) fn check_group(&self) -> Result<()> {
        let Self { name, group, .. } = self;
        if *group < MAX_GROUPS {
            return Ok(());
        }
        let why = format!("is {group} for the parameter `{name}`; it must be below {MAX_GROUPS}");
        Err(Error::config("group", why))
    }
}

/// A network and its variables.
#[derive(Debug)]
pub struct Model {
    vars: VarStore,
    net: Net,
    params: Vec<Param>,
    buffers: Vec<(String, Tensor)>,
    /// The architecture, and its number of input channels.
    arch: Option<(Arch, usize)>,
    spec: Option<ArchSpec>,
    /// The head, if it was built from options.
    head: Option<OwnHead>,
    hold_frozen_norms: bool,
    grad_checkpointing: bool,
    /// The processes with which batch normalization layers share their statistics.
    synced: Option<sys::Group>,
}

impl Model {
    /// Creates a model from your own network with its variables. Its groups are those set with
    /// [`Path::set_group`](tch::nn::Path::set_group) when it was built.
    ///
    /// # Errors
    /// [`Error::Config`] if a trainable variable has no name, or a group above 65,535.
    pub fn from_module(vars: VarStore, net: impl ModuleT + 'static) -> Result<Self> {
        Self::from_net(vars, Net::Own(Box::new(net)))
    }

    fn from_net(vars: VarStore, net: Net) -> Result<Self> {
        let (params, buffers) = listed_variables(&vars)?;
        Ok(Self {
            vars,
            net,
            params,
            buffers,
            arch: None,
            spec: None,
            head: None,
            hold_frozen_norms: false,
            grad_checkpointing: false,
            synced: None,
        })
    }

    /// Returns the network's output for `x`, computed with dropout and batch statistics if `train` is true.
    ///
    /// # Errors
    /// [`Error::Computation`] with libtorch's reason, or the message of the panic, if the network does not
    /// accept the inputs, or if a batch normalization has one value per channel in training.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_with(x, train, &mut |_, _| {})
    }

    /// As [`forward`](Self::forward), where `visit` receives the output of each child of the body and of
    /// the `head` by name. It must copy what it keeps: the next child may overwrite it.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, HeadOptions, resnet18}, seed::Seed, tch::{self, Device, Tensor}};
    ///
    /// let spec = ArchSpec::new(&resnet18(), 3, 2, HeadOptions::new());
    /// let model = spec.build(Device::Cpu, Seed(1))?;
    /// let mut shapes = vec![];
    /// let x = Tensor::zeros([1, 3, 64, 64], tch::kind::FLOAT_CPU);
    /// model.forward_with(&x, false, &mut |name, out| shapes.push((name.to_owned(), out.size())))?;
    /// assert_eq!(shapes[0], ("conv1".to_owned(), vec![1, 64, 32, 32]));
    /// assert_eq!(shapes[7], ("layer4".to_owned(), vec![1, 512, 2, 2]));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_with(
        &self,
        x: &Tensor,
        train: bool,
        visit: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let statistics = batch_norm::Statistics::before(&self.buffers, x, train)?;
        let done = caught_tensor(|| {
            let _hold = batch_norm::hold(self.hold_frozen_norms);
            let _recomputing = recompute::recomputing(self.grad_checkpointing);
            let _synced = batch_norm::Synced::new(self.synced.clone());
            Ok(self.net.forward_with(x, train, visit))
        });
        statistics
            .check()
            .and(done)
            .map_err(Error::computation(|| format!("the model on inputs of shape {:?}", x.size())))
    }

    /// Makes batch normalization layers use the statistics of the items of all processes in training.
    ///
    /// Errors of an exchange are returned by [`Model::sync_failure`], since a module cannot return errors.
    pub(crate) fn sync_norms(&mut self, group: Option<sys::Group>) {
        self.synced = group;
    }

    /// Returns an error if a batch normalization of the last forward pass could not exchange its
    /// statistics.
    pub(crate) fn sync_failure(&self) -> Result<()> {
        batch_norm::failure().map_or(Ok(()), Err)
    }

    /// If true, frozen batch normalization layers use their running statistics in training, instead of
    /// batch statistics, and do not update them. It applies to networks of this crate, and to your own if they use
    /// [`BatchNorm`]. Default: false.
    pub fn hold_frozen_norms(&mut self, yes: bool) {
        self.hold_frozen_norms = yes;
    }

    /// If true, a training pass keeps only the input of each block, and the backward pass computes the block
    /// again: timm's `set_grad_checkpointing`. Training then needs less memory, so that larger images or batches
    /// fit, and about a third more time. Results and gradients are bitwise identical, even with dropout and
    /// stochastic depth, and running statistics are updated once. Default: false.
    ///
    /// The blocks are those of [`Arch::split_layers`] for networks by name, and the residual blocks of
    /// ResNets, xresnets, EfficientNets and MobileNets of this crate. Layers before and after the blocks, such
    /// as the head, are computed once.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, HeadOptions, by_name}, seed::Seed, tch::Device};
    ///
    /// let spec = ArchSpec::new(&by_name("test_vit")?, 3, 2, HeadOptions::new());
    /// let mut model = spec.build(Device::Cpu, Seed(1))?;
    /// model.grad_checkpointing(true)?;
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the network has no blocks (VGG, DenseNet, SqueezeNet, AlexNet, and networks of
    /// your own), if it is a U-Net, or if its normalizations share their statistics with other processes
    /// ([`sync_bn`](crate::learner::DistributedOptions::sync_bn)).
    pub fn grad_checkpointing(&mut self, yes: bool) -> Result<()> {
        let why = match yes {
            true if self.is_unet() => {
                "a U-Net keeps the feature maps of its body for the decoder: use smaller batches"
            }
            true if !self.net.has_blocks() => {
                "the network has no blocks that can be computed again: use a ResNet, a ConvNeXt, a vision \
                 transformer or another network of `finetune::model::list` with blocks"
            }
            true if self.synced.is_some() => {
                "the normalizations share their statistics, which a second pass would exchange again: \
                 choose either this or `sync_bn`"
            }
            _ => {
                self.grad_checkpointing = yes;
                return Ok(());
            }
        };
        Err(Error::unsupported("grad_checkpointing", why))
    }

    /// Returns true if the backward pass computes blocks again; see [`grad_checkpointing`](Self::grad_checkpointing).
    #[must_use]
    pub fn is_grad_checkpointing(&self) -> bool {
        self.grad_checkpointing
    }

    /// Returns the parameters, in the order in which the network was built.
    #[must_use]
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Returns the buffers, which are neither trained nor drawn, by name: running means and variances.
    pub fn buffers(&self) -> &[(String, Tensor)] {
        &self.buffers
    }

    /// Returns the number of parameter groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.params.iter().map(|p| p.group + 1).max().unwrap_or(0)
    }

    /// Returns true if the model is a body with a decoder for one output per pixel; see [`ArchSpec::unet`].
    #[must_use]
    pub fn is_unet(&self) -> bool {
        matches!(self.net, Net::Unet(_))
    }

    /// Returns true if the model is a complete network with its own classifier; see [`ArchSpec::classifier`].
    pub(crate) fn is_classifier(&self) -> bool {
        matches!(self.net, Net::Children(_))
    }

    /// Returns the device of the parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.vars.device()
    }

    /// Returns the description that the model was built from; `None` for your own network.
    #[must_use]
    pub fn spec(&self) -> Option<&ArchSpec> {
        self.spec.as_ref()
    }

    /// Returns true if the variable belongs to a head that is not the network's own classifier, or to a
    /// decoder. Published weights do not contain such variables.
    pub(super) fn is_new(&self, variable: &str) -> bool {
        match &self.net {
            Net::Parts { .. } => variable.starts_with("head."),
            Net::Unet(unet) => unet.own.contains(variable),
            Net::Children(_) | Net::Own(_) => false,
        }
    }

    /// Makes only the groups from `first` on trainable. If `train_bn` is true, the normalization layers of the
    /// other groups stay trainable too.
    pub fn freeze_to(&mut self, first: usize, train_bn: bool) {
        for p in &self.params {
            let learns = p.group >= first || (train_bn && p.kind == ParamKind::Norm);
            let _ = p.tensor.set_requires_grad(learns);
        }
    }

    /// Returns parameters and buffers by name, sorted; handles to the model's memory.
    #[must_use]
    pub fn state_dict(&self) -> Vec<(String, Tensor)> {
        let params = self.params.iter().map(|p| (p.name.clone(), p.tensor.shallow_clone()));
        let buffers = self.buffers.iter().map(|(n, t)| (n.clone(), t.shallow_clone()));
        let mut all: Vec<_> = params.chain(buffers).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Copies named tensors into the model. PyTorch's `num_batches_tracked` counters are ignored.
    ///
    /// # Errors
    /// [`Error::Mismatch`] listing missing and unexpected names and differing shapes; nothing is loaded then.
    pub fn load_state_dict(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        self.load_naming(state, usize::MAX)
    }

    /// As [`load_state_dict`](Self::load_state_dict). The error has at most `shown` names of each kind, and the number
    /// of the others.
    fn load_naming(&mut self, state: &[(String, Tensor)], shown: usize) -> Result<()> {
        let pairs = self.paired(state, shown)?;
        let _guard = tch::no_grad_guard();
        for (mut own, t) in pairs {
            own.f_copy_(t)?;
        }
        Ok(())
    }

    /// As [`load_state_dict`](Self::load_state_dict), for tensors that are not used elsewhere: tensors of
    /// the right type and device become the model's own and are not copied.
    pub(crate) fn adopt(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let pairs = self.paired(state, usize::MAX)?;
        let _guard = tch::no_grad_guard();
        for (mut own, t) in pairs {
            own.set_data(&t.f_to_device(own.device())?.f_to_kind(own.kind())?);
        }
        Ok(())
    }

    /// Pairs the model's tensors with the given ones, if all names and shapes match. Otherwise, the error has at most
    /// `shown` names of each kind.
    fn paired<'t>(
        &self,
        state: &'t [(String, Tensor)],
        shown: usize,
    ) -> Result<Vec<(Tensor, &'t Tensor)>> {
        let mut given: BTreeMap<&str, &Tensor> = state
            .iter()
            .filter(|(n, _)| !n.ends_with("num_batches_tracked"))
            .map(|(n, t)| (n.as_str(), t))
            .collect();
        let (mut missing, mut misshaped, mut pairs) = (vec![], vec![], vec![]);
        for (name, own) in self.state_dict() {
            match given.remove(name.as_str()) {
                None => missing.push(name),
                Some(t) if t.size() != own.size() => {
                    misshaped.push(format!("{name} is {:?} instead of {:?}", t.size(), own.size()));
                }
                Some(t) => pairs.push((own, t)),
            }
        }
        let unexpected: Vec<String> = given.into_keys().map(ToOwned::to_owned).collect();
        let wrong: Vec<String> =
            [("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped)]
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(what, names)| format!("{what}: {}", listed(&names, shown)))
                .collect();
        if wrong.is_empty() {
            return Ok(pairs);
        }
        Err(Error::mismatch(
            "weights",
            format!("the weights do not match the model; {}", wrong.join("; ")),
        ))
    }

    /// Checks that [`load_state_dict`](Self::load_state_dict) would accept these tensors.
    ///
    /// # Errors
    /// As [`load_state_dict`](Self::load_state_dict).
    pub(crate) fn check_state(&self, state: &[(String, Tensor)]) -> Result<()> {
        self.paired(state, usize::MAX).map(drop)
    }

    /// Checks that no weight is NaN or infinite, and no buffer NaN. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFiniteWeights`] naming the first such variable.
    pub fn check_finite(&self) -> Result<()> {
        let params = self.params.iter().map(|p| (&p.name, p.tensor.f_isfinite()));
        let buffers = self.buffers.iter().filter(|(_, t)| t.is_floating_point());
        // A buffer may contain infinities on purpose, for example a mask.
        let buffers =
            buffers.map(|(name, t)| (name, t.f_isnan().and_then(|nan| nan.f_logical_not())));
        let (mut names, mut fine) = (vec![], vec![]);
        for (name, each) in params.chain(buffers) {
            names.push(name);
            fine.push(each?.f_all()?);
        }
        if fine.is_empty() {
            return Ok(());
        }
        let fine = Tensor::f_stack(&fine, 0)?.f_to_kind(tch::Kind::Int64)?;
        let fine: Vec<i64> = Vec::try_from(fine)?;
        match fine.iter().position(|fine| *fine == 0) {
            None => Ok(()),
            Some(i) => Err(Error::non_finite_weights(names[i].clone())),
        }
    }

    /// Rounds the weights of convolutions and linear layers to a 16-bit type, for predictions under
    /// automatic casts, which would otherwise round them in each call.
    pub(crate) fn round_weights(&mut self, kind: tch::Kind) {
        let _guard = tch::no_grad_guard();
        for p in &mut self.params {
            if p.kind == ParamKind::Weight && p.tensor.dim() > 1 && p.name.ends_with(".weight") {
                p.tensor.set_data(&p.tensor.detach().to_kind(kind));
            }
        }
    }

    /// Converts the weights of convolutions to channels-last memory, which makes convolutions of
    /// channels-last inputs faster. Names, shapes and results are unchanged.
    pub fn channels_last(&mut self) {
        let _guard = tch::no_grad_guard();
        for p in &mut self.params {
            if p.tensor.dim() == 4 {
                let last = p.tensor.detach().permute([0, 2, 3, 1]).contiguous();
                p.tensor.set_data(&last.permute([0, 3, 1, 2]));
            }
        }
    }
}

type NamedTensor = (String, Tensor);

/// Returns the parameters in the order in which the network was built, and the other variables.
fn listed_variables(vars: &VarStore) -> Result<(Vec<Param>, Vec<NamedTensor>)> {
    let named: BTreeMap<String, Tensor> = vars.variables().into_iter().collect();
    let names: BTreeMap<usize, &String> =
        named.iter().map(|(name, t)| (t.data_ptr() as usize, name)).collect();
    let mut params = vec![];
    {
        let store = vars.variables_.lock().map_err(|_| {
            Error::config(
                "Model::from_module",
                "another thread panicked while it held the variables",
            )
        })?;
        for var in &store.trainable_variables {
            let Some(name) = names.get(&(var.tensor.data_ptr() as usize)) else {
                let why = format!("a variable of shape {:?} has no name", var.tensor.size());
                return Err(Error::config("Model::from_module", why));
            };
            let param = Param {
                name: (*name).clone(),
                tensor: var.tensor.shallow_clone(),
                group: var.group,
                kind: kind(name, &var.tensor, &named),
            };
            param.check_group()?;
            params.push(param);
        }
    }
    weights_first(&mut params);
    let trained: BTreeSet<&str> = params.iter().map(|p| p.name.as_str()).collect();
    let buffers = named
        .iter()
        .filter(|(name, _)| !trained.contains(name.as_str()))
        .map(|(name, t)| (name.clone(), t.shallow_clone()))
        .collect();
    Ok((params, buffers))
}

/// Joins names for an error: all of them, or the first ones, at most `shown`, and the number of the others.
fn listed(names: &[String], shown: usize) -> String {
    const LONGEST: usize = 1 << 15;
    let mut all = String::new();
    for (i, name) in names.iter().enumerate() {
        let name: String = name.chars().take(256).collect();
        if i == shown || all.len() + name.len() > LONGEST {
            return format!("{all} and {} more", names.len() - i);
        }
        let comma = if i > 0 { ", " } else { "" };
        all.extend([comma, &name]);
    }
    all
}

fn kind(name: &str, tensor: &Tensor, all: &BTreeMap<String, Tensor>) -> ParamKind {
    let (prefix, own) = name.rsplit_once('.').unwrap_or(("", name));
    const POSITIONS: [&str; 9] = [
        "pos_embed",
        "pos_embedding",
        "cls_token",
        "class_token",
        "dist_token",
        "reg_token",
        "relative_position_bias_table",
        "attention_biases",
        "freqs",
    ];
    // Learned tokens and positions, and scales of branches, are treated as biases despite their shape.
    if POSITIONS.contains(&own) || own == "layer_scale" {
        ParamKind::Bias
    // The factor of a self-attention has weight decay, as in fastai.
    } else if tensor.dim() > 1 || (own == "gamma" && tensor.numel() == 1) {
        ParamKind::Weight
    } else if own == "weight"
        || all.contains_key(&format!("{prefix}.running_mean"))
        || all.get(&format!("{prefix}.weight")).is_some_and(|w| w.dim() == 1)
    {
        ParamKind::Norm
    } else {
        ParamKind::Bias
    }
}

/// Restores PyTorch's order within a layer: tch creates some biases before their weights.
fn weights_first(params: &mut [Param]) {
    let prefix = |p: &Param| p.name.rsplit_once('.').map(|(a, _)| a.to_owned());
    for i in 1..params.len() {
        let same = prefix(&params[i - 1]) == prefix(&params[i]);
        if same && params[i - 1].name.ends_with(".bias") && params[i].name.ends_with(".weight") {
            params.swap(i - 1, i);
        }
    }
}

//! A description from which a model is built, as data.

use super::{
    Arch, HeadLayer, HeadOptions, Model, UnetOptions,
    arch::Changes,
    by_name,
    head::OwnHead,
    layers::undrawn,
    net::Net,
    unet::{Decoder, Unet},
};
use crate::{
    error::{Error, Result},
    seed::{Seed, Stream},
    sys::{self, caught},
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tch::{
    Device, Tensor,
    nn::{ModuleT, Path, VarStore},
};

/// A description from which a model is built, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Described", into = "Described")]
pub struct ArchSpec {
    arch: Arch,
    n_in: usize,
    n_out: usize,
    /// `None` for the architecture's own classifier, and for a U-Net.
    head: Option<HeadOptions>,
    unet: Option<UnetOptions>,
}

/// The number of parameters from which a description is compared with its weights before the network is built.
const LARGE: u64 = 50_000_000;

/// An [`ArchSpec`] in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Described {
    arch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    splits: Option<Vec<usize>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_size: Option<[i64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drop_path: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
    n_in: usize,
    n_out: usize,
    head: Option<HeadOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unet: Option<UnetOptions>,
}

impl From<ArchSpec> for Described {
    fn from(spec: ArchSpec) -> Self {
        let Changes { cut, splits, size: image_size, drop_path, dropout } =
            spec.arch.changes().unwrap_or_default();
        let ArchSpec { arch, n_in, n_out, head, unet } = spec;
        let arch = arch.name().to_owned();
        Self { arch, cut, splits, image_size, drop_path, dropout, n_in, n_out, head, unet }
    }
}

impl TryFrom<Described> for ArchSpec {
    type Error = Error;

    fn try_from(d: Described) -> Result<Self> {
        let arch = by_name(&d.arch)?;
        if d.head.is_some() && d.unet.is_some() {
            return Err(Error::config("arch", "a model has a head or a decoder, not both"));
        }
        let Described { cut, splits, image_size: size, drop_path, dropout, .. } = d;
        let rates = [drop_path, dropout];
        if let Some(rate) = rates.iter().flatten().find(|r| !(0.0..=1.0).contains(*r)) {
            let why = format!("a rate is {rate}; it must be between 0 and 1");
            return Err(Error::config("drop_path", why));
        }
        let arch = arch.changed(Changes { cut, splits, size, drop_path, dropout });
        arch.check_size()?;
        Ok(Self { arch, n_in: d.n_in, n_out: d.n_out, head: d.head, unet: d.unet })
    }
}

impl ArchSpec {
    /// Returns a body for `n_in` channels with a head for `n_out` outputs.
    #[must_use]
    pub fn new(arch: &Arch, n_in: usize, n_out: usize, head: HeadOptions) -> Self {
        // A vector needs no pooling.
        let head = if arch.pools() { head.pool(false) } else { head };
        Self { arch: arch.clone(), n_in, n_out, head: Some(head), unet: None }
    }

    /// Returns the complete network with its own classifier, as in torchvision: with the pretrained weights
    /// and 1000 outputs, it predicts the classes of ImageNet. The classifier is an additional parameter
    /// group.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, squeezenet1_1}, seed::Seed, tch::Device};
    ///
    /// let model = ArchSpec::classifier(&squeezenet1_1(), 3, 1000).build(Device::Cpu, Seed(1))?;
    /// let names: Vec<String> = model.params().iter().map(|p| p.name.clone()).collect();
    /// assert!(names.contains(&"classifier.1.weight".to_owned()));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    #[must_use]
    pub fn classifier(arch: &Arch, n_in: usize, n_out: usize) -> Self {
        Self { arch: arch.clone(), n_in, n_out, head: None, unet: None }
    }

    /// Returns a body for `n_in` channels with a decoder for `n_out` values per pixel: fastai's
    /// [`DynamicUnet`](https://docs.fast.ai/vision.models.unet.html). The decoder is an additional
    /// parameter group. It joins the feature maps of the body wherever their width changes, so the body
    /// must change it at least once. The children of an architecture of your own must return `[N, C, H, W]`;
    /// other outputs are not joined.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, UnetOptions, resnet18}, seed::Seed};
    /// use finetune::tch::{Device, Kind, Tensor};
    ///
    /// let spec = ArchSpec::unet(&resnet18(), 3, 4, UnetOptions::new().size_hw(64, 64));
    /// let model = spec.build(Device::Cpu, Seed(1))?;
    /// let x = Tensor::zeros([1, 3, 64, 64], (Kind::Float, Device::Cpu));
    /// assert_eq!(model.forward(&x, false)?.size(), [1, 4, 64, 64]);
    /// # Ok::<(), finetune::Error>(())
    /// ```
    #[must_use]
    pub fn unet(arch: &Arch, n_in: usize, n_out: usize, options: UnetOptions) -> Self {
        Self { arch: arch.clone(), n_in, n_out, head: None, unet: Some(options) }
    }

    /// Returns the architecture.
    #[must_use]
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Returns the number of channels of the images.
    #[must_use]
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Returns the number of outputs.
    #[must_use]
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Builds the model with new weights, drawn from `seed`: torchvision's initialization for the body,
    /// fastai's for the head. The weights are the same on every device.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 channels or outputs, a cut that leaves nothing, images of invalid size or that the body of a
    /// U-Net does not accept, or an invalid head; [`Error::Unsupported`] for a U-Net whose body has no feature maps of
    /// decreasing size; [`Error::Torch`] if the memory does not suffice; [`Error::Panic`] if the closure of
    /// [`Arch::new`] panics.
    pub fn build(&self, device: Device, seed: Seed) -> Result<Model> {
        if let Some(options) = &self.unet {
            return self.assemble(device, seed, |vars| {
                let root = vars.root();
                let sides = (self.n_in as i64, self.n_out as i64);
                let encoder = self.arch.body(&root, sides.0)?;
                let path = root.set_group(groups(vars)) / "layers";
                let of_body = vars.variables();
                let decoder = Decoder::new(&path, &encoder, sides, options)?;
                let own = vars.variables().into_keys().filter(|name| !of_body.contains_key(name));
                let own = own.collect();
                Ok(Net::Unet(Box::new(Unet { encoder, decoder, own })))
            });
        }
        let Some(head) = &self.head else {
            return self.assemble(device, seed, |vars| {
                let all = self.arch.whole(&vars.root(), self.n_in as i64, self.n_out as i64)?;
                Ok(Net::Children(all))
            });
        };
        self.with_head(device, seed, Some(head), |path, features, n_out| {
            Ok(Box::new(head.build(path, features, n_out)?))
        })
    }

    /// Builds the model from existing weights, which become its own; nothing is drawn. The tensors must not
    /// be used elsewhere.
    ///
    /// # Errors
    /// As [`build`](Self::build), and as [`Model::load_state_dict`].
    pub(crate) fn build_with(&self, device: Device, state: &[(String, Tensor)]) -> Result<Model> {
        let mut model = undrawn(|| self.build(device, Seed(0)))?;
        model.adopt(state)?;
        Ok(model)
    }

    /// Builds the model with your own head instead of the options': `make` receives the path of its
    /// variables, the features of the body and the number of outputs. The head's input is the body's
    /// feature map.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, HeadOptions, resnet18}, seed::Seed};
    /// use finetune::tch::{Device, Tensor, nn};
    ///
    /// let spec = ArchSpec::new(&resnet18(), 3, 10, HeadOptions::new());
    /// let model = spec.build_with_head(Device::Cpu, Seed(1), |path, features, n_out| {
    ///     let last = nn::linear(path / "last", features, n_out, Default::default());
    ///     let pool = |x: &Tensor| x.mean_dim([2i64, 3].as_slice(), false, None);
    ///     Ok(Box::new(nn::seq_t().add_fn(pool).add(last)))
    /// })?;
    /// assert!(model.params().iter().any(|p| p.name == "head.last.weight" && p.group == 2));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build), and errors of `make`. Such a model has no [`spec`](Model::spec) and
    /// cannot be exported.
    pub fn build_with_head(
        &self,
        device: Device,
        seed: Seed,
        make: impl FnOnce(&Path<'_>, i64, i64) -> Result<Box<dyn ModuleT>>,
    ) -> Result<Model> {
        let mut model = self.with_head(device, seed, None, make)?;
        model.spec = None;
        Ok(model)
    }

    /// Returns true if weights with this number of tensors and elements can belong to this model, as far as
    /// the freely chosen parts of a description determine. For untrusted files: a model is allocated before
    /// its weights are compared.
    ///
    /// # Errors
    /// As [`build`](Self::build), for an invalid head or cut.
    pub(crate) fn can_have(&self, tensors: usize, elements: usize) -> Result<bool> {
        // A body has a part of the parameters, less than a tenth for VGG. The name of a large network costs the writer
        // of a file nothing.
        let params = self.arch.published_params().unwrap_or(0);
        if params > LARGE && params / 32 > elements as u64 {
            return Ok(false);
        }
        // The smallest first convolution has 16 filters of 3×3.
        let fits = |n: usize, each: usize| n.checked_mul(each).is_some_and(|n| n <= elements);
        if let Some(options) = &self.unet {
            return Ok(options.is_moderate() && fits(self.n_in, 144) && fits(self.n_out, 1));
        }
        let Some(head) = &self.head else {
            // The last layer of a classifier has at least as many inputs as there are features.
            let inputs = self.arch.published_features().unwrap_or(512).clamp(1, 512) as usize;
            return Ok(fits(self.n_in, 144) && fits(self.n_out, inputs));
        };
        if head.hidden() > tensors || !fits(self.n_in, 144) || !fits(self.n_out, 1) {
            return Ok(false);
        }
        let mut left = Some(elements);
        for layer in head.layers(self.arch.features()?, self.n_out as i64)? {
            let size = match layer {
                HeadLayer::Linear { n_in, n_out, .. } => n_in.checked_mul(n_out),
                HeadLayer::BatchNorm { features, .. } => features.checked_mul(4),
                _ => Some(0),
            };
            let size = size.and_then(|n| usize::try_from(n).ok());
            left = left.zip(size).and_then(|(left, size)| left.checked_sub(size));
        }
        Ok(left.is_some())
    }

    fn with_head(
        &self,
        device: Device,
        seed: Seed,
        options: Option<&HeadOptions>,
        make: impl FnOnce(&Path<'_>, i64, i64) -> Result<Box<dyn ModuleT>>,
    ) -> Result<Model> {
        let mut of_body = vec![];
        let mut model = self.assemble(device, seed, |vars| {
            let root = vars.root();
            let body = self.arch.body(&root, self.n_in as i64)?;
            let features = self.arch.features_of(&body, self.n_in as i64, vars.device())?;
            let path = root.set_group(groups(vars)) / "head";
            of_body = vars.variables().into_values().collect();
            let head = make(&path, features, self.n_out as i64)?;
            Ok(Net::Parts { body, head })
        })?;
        model.head = options.map(|options| OwnHead { options: options.clone(), of_body });
        Ok(model)
    }

    /// Returns the same description with another head.
    pub(super) fn with_other_head(self, head: HeadOptions) -> Self {
        Self { head: Some(head), ..self }
    }

    fn assemble(
        &self,
        device: Device,
        seed: Seed,
        make: impl FnOnce(&VarStore) -> Result<Net>,
    ) -> Result<Model> {
        if self.n_in == 0 || self.n_out == 0 {
            return Err(Error::config("n_out", "a model needs input channels and outputs"));
        }
        if let Some(rate) = self.arch.own_dropout()
            && (self.head.is_some() || self.unet.is_some())
        {
            let why = format!(
                "is {rate} before the network's own classifier, which a head or a decoder replaces: set \
                 `HeadOptions::ps`, or keep the classifier"
            );
            return Err(Error::config("dropout", why));
        }
        sys::check_device(device)?;
        tch::manual_seed(seed.rng(Stream::Init).next_u64() as i64);
        let mut vars = VarStore::new(Device::Cpu);
        let net = caught(|| make(&vars))?;
        self.arch.rename(&vars)?;
        vars.set_device(device);
        let mut model = Model::from_net(vars, net)?;
        model.arch = Some((self.arch.clone(), self.n_in));
        model.spec = self.arch.changes().map(|_| self.clone());
        Ok(model)
    }
}

/// Returns the number of groups so far. Numbers that are too large become an error when the model is complete.
fn groups(vars: &VarStore) -> usize {
    let vars = vars.variables_.lock();
    let last = |vars: &tch::nn::Variables| vars.trainable_variables.iter().map(|v| v.group).max();
    vars.ok().and_then(|vars| last(&vars)).map_or(0, |last| last.saturating_add(1))
}

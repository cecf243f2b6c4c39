//! Architectures by name, and what a model is built from.

use super::{HeadOptions, Model, WeightsFrom, head::Head, resnet::ResNet, weights};
use crate::{
    error::{Error, Result},
    seed::{Seed, Stream},
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tch::{
    Device, Tensor,
    nn::{ModuleT, VarStore},
};

/// An architecture: a body that can be given a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arch {
    /// Its name, as torchvision's: `resnet34`.
    pub name: &'static str,
    /// The channels of its last feature map.
    pub features: i64,
    blocks: [usize; 4],
    bottleneck: bool,
    /// The file of torchvision's weights, with the beginning of its SHA-256 in the name.
    pub(super) file: &'static str,
}

const ALL: [Arch; 5] = [
    arch("resnet18", [2, 2, 2, 2], false, "resnet18-f37072fd.pth"),
    arch("resnet34", [3, 4, 6, 3], false, "resnet34-b627a593.pth"),
    arch("resnet50", [3, 4, 6, 3], true, "resnet50-11ad3fa6.pth"),
    arch("resnet101", [3, 4, 23, 3], true, "resnet101-cd907fc2.pth"),
    arch("resnet152", [3, 8, 36, 3], true, "resnet152-f82ba261.pth"),
];

const fn arch(
    name: &'static str,
    blocks: [usize; 4],
    bottleneck: bool,
    file: &'static str,
) -> Arch {
    Arch { name, features: if bottleneck { 2048 } else { 512 }, blocks, bottleneck, file }
}

/// ResNet-18: 11 million parameters in the body.
#[must_use]
pub fn resnet18() -> Arch {
    ALL[0].clone()
}

/// ResNet-34: 21 million parameters in the body.
#[must_use]
pub fn resnet34() -> Arch {
    ALL[1].clone()
}

/// ResNet-50: 24 million parameters in the body.
#[must_use]
pub fn resnet50() -> Arch {
    ALL[2].clone()
}

/// ResNet-101: 43 million parameters in the body.
#[must_use]
pub fn resnet101() -> Arch {
    ALL[3].clone()
}

/// ResNet-152: 58 million parameters in the body.
#[must_use]
pub fn resnet152() -> Arch {
    ALL[4].clone()
}

/// The architecture called `name`.
///
/// # Errors
/// [`Error::Config`] listing the names that there are.
pub fn by_name(name: &str) -> Result<Arch> {
    ALL.iter().find(|a| a.name == name).cloned().ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|a| a.name).collect();
        Error::config("arch", format!("there is no `{name}`: there are {}", names.join(", ")))
    })
}

/// What a model is built from, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchSpec {
    arch: String,
    n_in: usize,
    n_out: usize,
    head: HeadOptions,
}

impl ArchSpec {
    /// A body for `n_in` channels, with a head for `n_out` outputs.
    #[must_use]
    pub fn new(arch: &Arch, n_in: usize, n_out: usize, head: HeadOptions) -> Self {
        Self { arch: arch.name.to_owned(), n_in, n_out, head }
    }

    /// The architecture.
    ///
    /// # Errors
    /// [`Error::Config`] if this crate has none of that name.
    pub fn arch(&self) -> Result<Arch> {
        by_name(&self.arch)
    }

    /// The model with new weights, drawn from `seed`: torchvision's initialisation for the body,
    /// fastai's for the head. The same on every device.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown architecture or for 0 channels or outputs.
    pub fn build(&self, device: Device, seed: Seed) -> Result<Model> {
        let arch = self.arch()?;
        if self.n_in == 0 || self.n_out == 0 {
            return Err(Error::config("n_out", "a model needs input channels and outputs"));
        }
        tch::manual_seed(seed.rng(Stream::Init).next_u64() as i64);
        let mut vars = VarStore::new(Device::Cpu);
        let net = {
            let root = vars.root();
            let body = ResNet::new(&root, self.n_in as i64, arch.blocks, arch.bottleneck);
            let path = root.set_group(2) / "head";
            let head = Head::new(&path, arch.features, self.n_out as i64, &self.head);
            BodyAndHead { body, head }
        };
        vars.set_device(device);
        let mut model = Model::from_module(vars, net)?;
        model.spec = Some(self.clone());
        Ok(model)
    }
}

impl Model {
    /// Loads torchvision's ImageNet weights into the body; the head stays as it is.
    ///
    /// # Errors
    /// [`Error::Download`] if the weights cannot be had, naming where to place them;
    /// [`Error::Checkpoint`] if they do not fit.
    pub fn load_pretrained(&mut self) -> Result<()> {
        self.load_pretrained_from(&WeightsFrom::published())
    }

    /// Loads weights of torchvision's names and shapes into the body; the head stays as it is.
    ///
    /// # Errors
    /// As [`load_pretrained`](Self::load_pretrained).
    pub fn load_pretrained_from(&mut self, from: &WeightsFrom) -> Result<()> {
        let Some(spec) = self.spec().cloned() else {
            return Err(Error::config("pretrained", "a network of your own has no such weights"));
        };
        weights::load(self, &spec.arch()?, spec.n_in, from)
    }
}

#[derive(Debug)]
struct BodyAndHead {
    body: ResNet,
    head: Head,
}

impl ModuleT for BodyAndHead {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.head.forward_t(&self.body.forward_t(x, train), train)
    }
}

/// fastai's name for a variable of this crate's residual networks: `layer1.0.bn1.weight` is
/// `0.4.0.bn1.weight` there, `head.8.weight` is `1.8.weight`.
///
/// ```
/// use finetune::model::fastai_name;
///
/// assert_eq!(fastai_name("layer1.0.bn1.weight"), "0.4.0.bn1.weight");
/// assert_eq!(fastai_name("head.8.weight"), "1.8.weight");
/// ```
#[must_use]
pub fn fastai_name(name: &str) -> String {
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let place = match first {
        "conv1" => "0.0",
        "bn1" => "0.1",
        "layer1" => "0.4",
        "layer2" => "0.5",
        "layer3" => "0.6",
        "layer4" => "0.7",
        "head" => "1",
        other => other,
    };
    format!("{place}.{rest}")
}

//! An architecture: how a network is built, where its body ends, and how it is split into groups.

use super::{
    Model, Weights, WeightsFrom,
    body::{Body, Children, kept},
    weights,
    zoo::Entry,
};
use crate::{
    error::{Error, Result},
    sys::caught,
    transform::Normalize,
};
use std::{borrow::Cow, fmt, sync::Arc};
use tch::{
    Tensor,
    nn::{ModuleT, Path},
};

/// An architecture: a network whose body can be given a head.
///
/// Those of this crate are [`resnet34`](super::resnet34) and so on; [`Arch::new`] makes one of your own.
#[derive(Clone)]
pub struct Arch {
    name: Cow<'static, str>,
    make: Make,
    cut: Option<i64>,
    splits: Cow<'static, [usize]>,
    /// The features of the body, if they are known without asking it.
    features: Option<i64>,
    weights: Option<Weights>,
}

/// Appends the children of a network for so many input channels.
type MakeChildren = dyn Fn(&mut Children<'_>, i64) + Send + Sync;

/// Where the children of a network come from.
#[derive(Clone)]
enum Make {
    Shipped(&'static Entry),
    Own(Arc<MakeChildren>),
}

impl Arch {
    pub(super) fn shipped(entry: &'static Entry) -> Self {
        Self {
            name: Cow::Borrowed(entry.name),
            make: Make::Shipped(entry),
            cut: Some(entry.cut),
            splits: Cow::Borrowed(entry.splits),
            features: Some(entry.features),
            weights: entry.weights.first().copied(),
        }
    }

    /// An architecture of your own: `make` appends the children of a network for so many input channels.
    ///
    /// A network that is no list can be one child. Its parameter groups are those of [`split`](Self::split),
    /// or those that you give with [`Path::set_group`](tch::nn::Path::set_group); the head is one more.
    /// See [`Children`] for an example. Such a model cannot be exported, since a file cannot hold code.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        make: impl Fn(&mut Children<'_>, i64) + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Cow::Owned(name.into()),
            make: Make::Own(Arc::new(make)),
            cut: None,
            splits: Cow::Borrowed(&[]),
            features: None,
            weights: None,
        }
    }

    /// Its name: torchvision's, such as `resnet34`, or your own.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The children of the whole network, before any cut: `conv1`, `bn1` and so on.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        self.list(3, 1).names()
    }

    /// Where the body ends: so many children are kept, or left away at the end if `at` is negative, as
    /// with fastai's `cut`. The children of a network that has `features` are counted one by one.
    /// Default: before the last pooling.
    #[must_use]
    pub fn cut(mut self, at: i64) -> Self {
        (self.cut, self.features) = (Some(at), None);
        self
    }

    /// Where parameter groups begin: `[6]` puts the children before the seventh into group 0 and the
    /// others into group 1, as fastai's `splitter` does. Default: fastai's split for the architectures of
    /// its `model_meta`, else one group.
    #[must_use]
    pub fn split(mut self, at: &[usize]) -> Self {
        self.splits = Cow::Owned(at.to_vec());
        self
    }

    /// Other published weights than the default ones, by torchvision's name: `IMAGENET1K_V1`.
    ///
    /// # Errors
    /// [`Error::Config`] listing what is published.
    pub fn weights_named(mut self, name: &str) -> Result<Self> {
        let all = self.published();
        let Some(weights) = all.iter().find(|w| w.name == name) else {
            let names: Vec<_> = all.iter().map(|w| w.name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let why = format!("{} has no weights `{name}`: there are {names}", self.name);
            return Err(Error::config("weights_named", why));
        };
        self.weights = Some(*weights);
        Ok(self)
    }

    /// The weights that are loaded when pretrained ones are asked for. None if none are published.
    #[must_use]
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// All weights that torchvision publishes for it.
    #[must_use]
    pub fn published(&self) -> &'static [Weights] {
        match &self.make {
            Make::Shipped(entry) => entry.weights,
            Make::Own(_) => &[],
        }
    }

    /// The channels of the body's last feature map.
    ///
    /// # Errors
    /// [`Error::Config`] if the body must be asked and takes no image of up to 2048 pixels.
    pub fn features(&self) -> Result<i64> {
        match self.features {
            Some(features) => Ok(features),
            None => {
                let vars = tch::nn::VarStore::new(tch::Device::Cpu);
                let body = self.body(&vars.root(), 3)?;
                self.features_of(&body, 3)
            }
        }
    }

    /// [`features`](Self::features), with the body at hand.
    pub(super) fn features_of(&self, body: &Body, n_in: i64) -> Result<i64> {
        match self.features {
            Some(features) => Ok(features),
            None => probe(body, n_in).map_err(|e| {
                let why = format!(
                    "{}: the body takes no image of {n_in} channels and up to 2048 pixels: {e}",
                    self.name
                );
                Error::config("arch", why)
            }),
        }
    }

    /// Where the body ends and how it is split, if other than by default; none for an architecture that
    /// a file cannot name.
    pub(super) fn changes(&self) -> Option<(Option<i64>, Option<Vec<usize>>)> {
        let Make::Shipped(entry) = &self.make else { return None };
        let cut = self.cut.filter(|cut| *cut != entry.cut);
        let splits = (self.splits != entry.splits).then(|| self.splits.to_vec());
        Some((cut, splits))
    }

    /// The names of the children that the body leaves away.
    pub(super) fn beyond_cut(&self) -> Vec<String> {
        let names = self.children();
        names[kept(names.len(), self.cut)..].to_vec()
    }

    fn list(&self, n_in: i64, n_out: i64) -> Children<'_> {
        let mut children = Children::default();
        match &self.make {
            Make::Shipped(entry) => (entry.children)(&mut children, n_in, n_out),
            Make::Own(make) => make(&mut children, n_in),
        }
        children
    }

    /// Builds the body.
    pub(super) fn body(&self, path: &Path<'_>, n_in: i64) -> Result<Body> {
        let children = self.list(n_in, 1);
        self.checked(&children)?;
        Ok(children.build(path, self.cut, &self.splits))
    }

    /// Builds the whole network with its own classifier, which is one more group.
    pub(super) fn whole(&self, path: &Path<'_>, n_in: i64, n_out: i64) -> Result<Body> {
        let children = self.list(n_in, n_out);
        self.checked(&children)?;
        let end = kept(children.names().len(), self.cut);
        let splits: Vec<usize> = self.splits.iter().copied().chain([end]).collect();
        Ok(children.build(path, None, &splits))
    }

    fn checked(&self, children: &Children<'_>) -> Result<()> {
        let names = children.names();
        let wrong = |why: String| Err(Error::config("arch", format!("{}: {why}", self.name)));
        if let Some(twice) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            return wrong(format!("two children are called `{}`", twice.1));
        }
        let levels = |n: &String| n.split('.').any(str::is_empty);
        if let Some(name) = names.iter().find(|n| levels(n)) {
            return wrong(format!("`{name}` is no name for a child"));
        }
        let beyond = self.cut.is_some_and(|cut| cut > names.len() as i64);
        if beyond || kept(names.len(), self.cut) == 0 {
            let cut = self.cut.unwrap_or(0);
            return wrong(format!("a cut at {cut} does not fit {} children", names.len()));
        }
        Ok(())
    }
}

/// The channels that the body makes of the smallest image that it takes. The error is that of the largest.
fn probe(body: &Body, n_in: i64) -> Result<i64> {
    let _guard = tch::no_grad_guard();
    let features = |size: i64| {
        let x = Tensor::f_zeros([1, n_in, size, size], tch::kind::FLOAT_CPU)?;
        let out = caught(|| Ok(body.forward_t(&x, false).size()))?;
        let none = || Error::mismatch("body", format!("its output has the shape {out:?}"));
        out.get(1).copied().ok_or_else(none)
    };
    [64, 128, 256, 512, 1024]
        .into_iter()
        .find_map(|n| features(n).ok())
        .map_or_else(|| features(2048), Ok)
}

impl fmt::Debug for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Arch");
        all.field("name", &self.name).field("cut", &self.cut).field("splits", &self.splits);
        all.finish_non_exhaustive()
    }
}

impl PartialEq for Arch {
    /// Whether both have the same name and are cut and split alike.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.cut, &self.splits) == (&other.name, other.cut, &other.splits)
    }
}

impl Eq for Arch {}

impl Model {
    /// Loads the published ImageNet weights into the body; the head stays as it is. Returns the
    /// normalization that they were trained with.
    ///
    /// # Errors
    /// [`Error::Download`] if the weights cannot be had, naming where to place them;
    /// [`Error::Checkpoint`] if they do not fit.
    pub fn load_pretrained(&mut self) -> Result<Option<Normalize>> {
        self.load_pretrained_from(&WeightsFrom::published())
    }

    /// Loads weights into the body; the head stays as it is. Returns the normalization that they were trained
    /// with; none for a model of this crate that was trained without.
    ///
    /// # Errors
    /// As [`load_pretrained`](Self::load_pretrained).
    pub fn load_pretrained_from(&mut self, from: &WeightsFrom) -> Result<Option<Normalize>> {
        let Some((arch, n_in)) = self.arch.clone() else {
            return Err(Error::unsupported(
                "pretrained",
                "a network of your own has no such weights",
            ));
        };
        weights::load(self, &arch, n_in, from)
    }

    /// The architecture of the body; none for a network of your own.
    #[must_use]
    pub fn arch(&self) -> Option<&Arch> {
        self.arch.as_ref().map(|(arch, _)| arch)
    }
}

//! Architectures: the construction of a network, the end of its body, and the split into groups.

use super::{
    Model, Weights, WeightsFrom,
    body::{Body, Children, kept},
    families::{Build, Layout},
    networks::{Network, torchvision_name},
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
    Device, Kind, Tensor,
    nn::{ModuleT, Path},
};

/// An architecture: a network whose body can be given a head.
///
/// Those of this crate are [`resnet34`](super::resnet34) and so on; [`Arch::new`] creates your own.
#[derive(Clone)]
pub struct Arch {
    name: Cow<'static, str>,
    make: Make,
    cut: Option<i64>,
    splits: Cow<'static, [usize]>,
    /// The features of the body, if known without running it.
    features: Option<i64>,
    weights: Option<Weights>,
    /// The height and width of the images that it is built for, if not the default.
    size: Option<[i64; 2]>,
    /// The rate of stochastic depth, if not the default.
    drop_path: Option<f64>,
    /// The rate of dropout before the network's own classifier, if not the default.
    dropout: Option<f64>,
}

/// Appends the children of a network for a number of input channels.
type MakeChildren = dyn Fn(&mut Children<'_>, i64) + Send + Sync;

/// The source of a network's children.
#[derive(Clone)]
enum Make {
    Shipped(&'static Entry),
    Table(&'static Network),
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
            size: None,
            drop_path: None,
            dropout: None,
        }
    }

    /// Creates the architecture of a network of the tables, under the requested `name`.
    pub(super) fn of_table(
        name: &str,
        network: &'static Network,
        weights: Option<Weights>,
    ) -> Self {
        Self {
            name: Cow::Owned(name.to_owned()),
            make: Make::Table(network),
            cut: Some(network.family.cut()),
            splits: Cow::Borrowed(&[]),
            features: Some(network.features),
            weights,
            size: None,
            drop_path: None,
            dropout: None,
        }
    }

    /// Creates your own architecture: `make` appends the children of a network for a number of input
    /// channels.
    ///
    /// A network that is not a sequence can be one child. Its parameter groups are those of
    /// [`split`](Self::split), or those that you set with [`Path::set_group`](tch::nn::Path::set_group);
    /// the head is one more. See [`Children`] for an example. Such a model cannot be exported, since a file
    /// cannot contain code.
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
            size: None,
            drop_path: None,
            dropout: None,
        }
    }

    /// Returns the name: torchvision's, such as `resnet34`, or your own.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the children of the whole network, before any cut: `conv1`, `bn1` and so on.
    ///
    /// # Panics
    /// If the closure of [`new`](Self::new) panics.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        self.list(3, 1, true).names()
    }

    /// Sets the end of the body: the number of children to keep or, if negative, to remove at the end, as
    /// fastai's `cut`. The children of a network that has `features` are counted individually. Default:
    /// before the last pooling.
    #[must_use]
    pub fn cut(mut self, at: i64) -> Self {
        (self.cut, self.features) = (Some(at), None);
        self
    }

    /// Sets the first child of each parameter group after group 0: `[6]` puts the children before the seventh
    /// into group 0 and the others into group 1, as fastai's `splitter` does. Default: fastai's split for the
    /// architectures of its `model_meta`, otherwise one group.
    ///
    /// Building a model fails if a group would start at child 0 or after the last child of the body.
    #[must_use]
    pub fn split(mut self, at: &[usize]) -> Self {
        self.splits = Cow::Owned(at.to_vec());
        self
    }

    /// Puts each block of the network into its own parameter group, for learning rates that decrease from
    /// layer to layer. The stem is group 0. A network without marked blocks is split at each of its
    /// children.
    ///
    /// ```
    /// use finetune::model::{ArchSpec, HeadOptions, by_name};
    /// use finetune::{seed::Seed, tch::Device};
    ///
    /// let arch = by_name("test_vit.r160_in1k")?.split_layers(); // 6 blocks
    /// let model = ArchSpec::new(&arch, 3, 2, HeadOptions::new()).build(Device::Cpu, Seed(1))?;
    /// assert_eq!(model.groups(), 8); // the stem, 6 blocks, the head
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the closure of [`new`](Self::new) panics.
    #[must_use]
    pub fn split_layers(self) -> Self {
        let layers = self.list(3, 1, true).layers();
        Self { splits: Cow::Owned(layers), ..self }
    }

    /// Sets the height and width in pixels of the images that the network is built for. Networks with
    /// position embeddings, or with windows that depend on the size, accept only images of this size;
    /// pretrained positions are resampled to it as in timm. Other networks ignore it: they accept any size.
    /// Default: the network's own, see [`image_size_of_build`](Self::image_size_of_build). Sides below 1 or above 4096,
    /// and sides that are not multiples of the side of a patch, are an error when the network is built.
    #[must_use]
    pub fn image_size(mut self, height: i64, width: i64) -> Self {
        self.size = Some([height, width]);
        self
    }

    /// Returns the height and width of the images that the network is built for; `None` if it accepts any
    /// size.
    #[must_use]
    pub fn image_size_of_build(&self) -> Option<[i64; 2]> {
        match &self.make {
            Make::Table(network) => {
                let own = network.family.image_size()?;
                // Weights include the size that they were trained for.
                let trained = self.weights.map(|w| w.size);
                Some(self.size.or(trained).unwrap_or(own))
            }
            Make::Shipped(_) | Make::Own(_) => None,
        }
    }

    /// Sets the rate of stochastic depth of the last block, from 0 to 1; the first block has rate 0, and
    /// the rates increase linearly between them. Default: the network's own, which is 0 for most.
    ///
    /// # Errors
    /// [`Error::Config`] if the rate is not between 0 and 1; [`Error::Unsupported`] if the network has no
    /// such setting.
    pub fn drop_path(mut self, rate: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&rate) {
            let why = format!("is {rate}; it must be between 0 and 1");
            return Err(Error::config("drop_path", why));
        }
        if !matches!(&self.make, Make::Table(network) if network.family.has_drop_path()) {
            let why = format!("{} has no stochastic depth that can be set", self.name);
            return Err(Error::unsupported("drop_path", why));
        }
        self.drop_path = Some(rate);
        Ok(self)
    }

    /// Sets the rate of dropout before the network's own classifier, from 0 to 1. Default: the network's
    /// own. A head or a decoder replaces the classifier, so a network with one cannot be built then: see
    /// [`HeadOptions::ps`](super::HeadOptions::ps).
    ///
    /// # Errors
    /// As [`drop_path`](Self::drop_path).
    pub fn dropout(mut self, rate: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&rate) {
            let why = format!("is {rate}; it must be between 0 and 1");
            return Err(Error::config("dropout", why));
        }
        if !matches!(self.make, Make::Table(_)) {
            let why = format!("{} has no dropout that can be set", self.name);
            return Err(Error::unsupported("dropout", why));
        }
        self.dropout = Some(rate);
        Ok(self)
    }

    /// Returns true if the body ends in a vector for each image instead of a feature map. Heads then have
    /// no pooling.
    #[must_use]
    pub fn pools(&self) -> bool {
        matches!(&self.make, Make::Table(network) if network.family.pools())
    }

    /// Selects other published weights than the default ones, by torchvision's name, such as
    /// `IMAGENET1K_V1`, or by timm's tag, such as `in12k_ft_in1k`.
    ///
    /// # Errors
    /// [`Error::Config`] listing the published weights.
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

    /// Returns the weights that are loaded by default; `None` if none are published.
    #[must_use]
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// Returns all published weights of the architecture, the default first.
    #[must_use]
    pub fn published(&self) -> &'static [Weights] {
        match &self.make {
            Make::Shipped(entry) => entry.weights,
            Make::Table(network) => &network.weights,
            Make::Own(_) => &[],
        }
    }

    /// Returns the number of channels of the body's last feature map.
    ///
    /// # Errors
    /// [`Error::Config`] if the number is only known by running the body, and the body accepts no image of up to
    /// 2048×2048 pixels.
    pub fn features(&self) -> Result<i64> {
        match self.features {
            Some(features) => Ok(features),
            None => {
                let vars = tch::nn::VarStore::new(Device::Cpu);
                let body = self.body(&vars.root(), 3)?;
                self.features_of(&body, 3, Device::Cpu)
            }
        }
    }

    /// As [`features`](Self::features), for a given body.
    pub(super) fn features_of(&self, body: &Body, n_in: i64, device: Device) -> Result<i64> {
        match self.features {
            Some(features) => Ok(features),
            None => {
                let size = self.image_size_of_build();
                probe(body, n_in, device, size).map_err(|e| {
                    let limit = if size.is_none() { " and up to 2048 pixels" } else { "" };
                    let name = &self.name;
                    let why =
                        format!("{name}: the body accepts no image of {n_in} channels{limit}: {e}");
                    Error::config("arch", why)
                })
            }
        }
    }

    /// Returns the window that a variable belongs to, in the images that the network is built for.
    pub(super) fn window_of(&self, variable: &str) -> Option<[i64; 2]> {
        let size = self.image_size_of_build()?;
        match &self.make {
            Make::Table(network) => network.family.window(variable, size),
            Make::Shipped(_) | Make::Own(_) => None,
        }
    }

    /// Returns true if the parameter groups are the default ones of the architecture.
    pub(crate) fn has_default_splits(&self) -> bool {
        match &self.make {
            Make::Shipped(entry) => self.splits == entry.splits,
            Make::Table(_) | Make::Own(_) => self.splits.is_empty(),
        }
    }

    /// Returns the changes to the default cut and splits; `None` for an architecture that cannot be named
    /// in a file.
    pub(super) fn changes(&self) -> Option<Changes> {
        let (own_cut, own_splits) = match &self.make {
            Make::Shipped(entry) => (entry.cut, entry.splits),
            Make::Table(network) => (network.family.cut(), &[] as &[usize]),
            Make::Own(_) => return None,
        };
        let cut = self.cut.filter(|cut| *cut != own_cut);
        let splits = (self.splits != own_splits).then(|| self.splits.to_vec());
        let size = self.image_size_of_build();
        let Self { drop_path, dropout, .. } = *self;
        Some(Changes { cut, splits, size, drop_path, dropout })
    }

    /// Returns the architecture with these changes.
    pub(super) fn changed(self, changes: Changes) -> Self {
        let Changes { cut, splits, size, drop_path, dropout } = changes;
        let arch = cut.into_iter().fold(self, Self::cut);
        let mut arch = splits.into_iter().fold(arch, |arch, splits| arch.split(&splits));
        (arch.size, arch.drop_path, arch.dropout) = (size, drop_path, dropout);
        arch
    }

    /// Returns the publisher's name of a variable, given its name when the network is built.
    pub(super) fn published_name(&self, name: &str) -> String {
        match &self.make {
            Make::Table(network) if network.layout == Layout::Torchvision => {
                torchvision_name(&network.family, name)
            }
            _ => name.to_owned(),
        }
    }

    /// Returns the prefixes of the names of variables that are not part of the body.
    pub(super) fn beyond_cut(&self) -> Vec<String> {
        let names = self.children();
        let beyond = names[kept(names.len(), self.cut)..].iter();
        let published = |child: &String| {
            let name = self.published_name(&format!("{child}.weight"));
            name.strip_suffix("weight").unwrap_or(&name).to_owned()
        };
        let mut beyond: Vec<String> = beyond.map(published).collect();
        if let Make::Table(network) = &self.make {
            beyond.extend(network.family.beyond(network.layout).iter().map(|&n| n.to_owned()));
        }
        beyond
    }

    /// Returns true if the network is one of the tables, whose variables have their publisher's names.
    pub(super) fn is_of_table(&self) -> bool {
        matches!(self.make, Make::Table(_))
    }

    /// Renames the variables to their publisher's names.
    pub(super) fn rename(&self, vars: &tch::nn::VarStore) -> Result<()> {
        let mut all = vars.variables_.lock().map_err(|_| {
            Error::config("arch", "another thread panicked while it held the variables")
        })?;
        let named = std::mem::take(&mut all.named_variables);
        let named = named.into_iter().map(|(name, t)| (self.published_name(&name), t));
        all.named_variables = named.collect();
        Ok(())
    }

    fn list(&self, n_in: i64, n_out: i64, whole: bool) -> Children<'_> {
        let mut children = Children::default();
        match &self.make {
            Make::Shipped(entry) => (entry.children)(&mut children, n_in, n_out),
            Make::Table(network) => {
                let build = Build {
                    n_in,
                    n_out,
                    size: self.image_size_of_build(),
                    drop_path: self.drop_path,
                    drop: self.dropout,
                    whole,
                };
                network.family.children(&mut children, build);
            }
            Make::Own(make) => make(&mut children, n_in),
        }
        children
    }

    /// Builds the body. A panic of a child, also of libtorch for lack of memory, is an error.
    pub(super) fn body(&self, path: &Path<'_>, n_in: i64) -> Result<Body> {
        self.check_size()?;
        caught(|| {
            let children = self.list(n_in, 1, false);
            self.checked(&children)?;
            self.check_splits(kept(children.names().len(), self.cut))?;
            Ok(children.build(path, self.cut, &self.splits))
        })
    }

    /// Builds the whole network with its own classifier, which is an additional group. Children may panic.
    pub(super) fn whole(&self, path: &Path<'_>, n_in: i64, n_out: i64) -> Result<Body> {
        self.check_size()?;
        let children = self.list(n_in, n_out, true);
        self.checked(&children)?;
        self.check_splits(children.names().len())?;
        let end = kept(children.names().len(), self.cut);
        // A split into layers may already put the layers before the classifier into its group.
        let last = self.splits.iter().max().copied();
        let own = last.is_some_and(|last| last >= end || children.ends_at(last));
        let end = (!own).then_some(end);
        let splits: Vec<usize> = self.splits.iter().copied().chain(end).collect();
        Ok(children.build(path, None, &splits))
    }

    /// Checks the size of the images, with which networks with position embeddings grow. A network ignores pixels
    /// beyond the last whole patch. Two published networks have such a size, so published sizes are accepted.
    pub(super) fn check_size(&self) -> Result<()> {
        let Some(size @ [height, width]) = self.size else { return Ok(()) };
        if size.iter().any(|n| !SIZES.contains(n)) {
            let why = format!("is {height}×{width} pixels; both must be between 1 and 4096");
            return Err(Error::config("image_size", why));
        }
        let Make::Table(network) = &self.make else { return Ok(()) };
        let (Some(patch), Some(own)) = (network.family.patch(), network.family.image_size()) else {
            return Ok(());
        };
        let published = size == own || network.weights.iter().any(|w| w.size == size);
        if published || size.iter().all(|n| n % patch == 0) {
            return Ok(());
        }
        let [fit_height, fit_width] = size.map(|n| (n / patch).max(1) * patch);
        let why = format!(
            "is {height}×{width} pixels for {}; both must be multiples of {patch}, the side of a patch: resize \
             the images, for example to {fit_height}×{fit_width}",
            self.name
        );
        Err(Error::config("image_size", why))
    }

    /// Returns the number of parameters of the published network, if it is one of the tables.
    pub(super) fn published_params(&self) -> Option<u64> {
        match &self.make {
            Make::Table(network) => Some(network.params),
            Make::Shipped(_) | Make::Own(_) => None,
        }
    }

    /// Returns the number of channels at the end of the default body; `None` for an architecture of the user.
    pub(super) fn published_features(&self) -> Option<i64> {
        match &self.make {
            Make::Shipped(entry) => Some(entry.features),
            Make::Table(network) => Some(network.features),
            Make::Own(_) => None,
        }
    }

    /// Returns the rate of [`dropout`](Self::dropout), if it was set.
    pub(super) fn own_dropout(&self) -> Option<f64> {
        self.dropout
    }

    /// Returns an error if a split of the user has no effect on the first `n` children. The default splits and
    /// those into layers may lie beyond the cut.
    fn check_splits(&self, n: usize) -> Result<()> {
        let Some(at) = self.splits.iter().find(|at| **at == 0 || **at >= n) else { return Ok(()) };
        if self.has_default_splits() || self.splits == self.list(3, 1, true).layers() {
            return Ok(());
        }
        let name = &self.name;
        let why = format!(
            "{name}: a group cannot start at child {at}; it must start between 1 and the last child, {}",
            n - 1
        );
        Err(Error::config("split", why))
    }

    fn checked(&self, children: &Children<'_>) -> Result<()> {
        let names = children.names();
        let wrong = |why: String| Err(Error::config("arch", format!("{}: {why}", self.name)));
        if let Some(twice) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            return wrong(format!("two children are called `{}`", twice.1));
        }
        let levels = |n: &String| n.split('.').any(str::is_empty);
        if let Some(name) = names.iter().find(|n| levels(n)) {
            return wrong(format!("`{name}` is not a valid name of a child"));
        }
        let beyond = self.cut.is_some_and(|cut| cut > names.len() as i64);
        if beyond || kept(names.len(), self.cut) == 0 {
            let cut = self.cut.unwrap_or(0);
            return wrong(format!("the cut is {cut}, but there are {} children", names.len()));
        }
        Ok(())
    }
}

/// The allowed heights and widths of images.
const SIZES: std::ops::RangeInclusive<i64> = 1..=4096;

/// The differences from the default architecture.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) cut: Option<i64>,
    pub(super) splits: Option<Vec<usize>>,
    pub(super) size: Option<[i64; 2]>,
    pub(super) drop_path: Option<f64>,
    pub(super) dropout: Option<f64>,
}

/// Returns the number of output channels for images of `size`, or if that is `None` for the smallest image that the
/// body accepts. The error is that of the largest.
fn probe(body: &Body, n_in: i64, device: Device, size: Option<[i64; 2]>) -> Result<i64> {
    let _guard = tch::no_grad_guard();
    let features = |[height, width]: [i64; 2]| {
        let x = Tensor::f_zeros([1, n_in, height, width], (Kind::Float, device))?;
        let out = caught(|| Ok(body.forward_t(&x, false).size()))?;
        let none = || Error::mismatch("body", format!("its output has the shape {out:?}"));
        out.get(1).copied().ok_or_else(none)
    };
    if let Some(size) = size {
        return features(size);
    }
    [64, 128, 256, 512, 1024]
        .into_iter()
        .find_map(|n| features([n, n]).ok())
        .map_or_else(|| features([2048, 2048]), Ok)
}

impl fmt::Debug for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Arch");
        all.field("name", &self.name).field("cut", &self.cut).field("splits", &self.splits);
        all.finish_non_exhaustive()
    }
}

impl PartialEq for Arch {
    /// Returns true if both have the same name, cut, splits and image size.
    fn eq(&self, other: &Self) -> bool {
        let own =
            |arch: &Self| (arch.cut, arch.image_size_of_build(), arch.drop_path, arch.dropout);
        (&self.name, &self.splits, own(self)) == (&other.name, &other.splits, own(other))
    }
}

impl Model {
    /// Loads the published weights of the architecture into the body; the head is unchanged. Returns the
    /// normalization that they were trained with. The network's own classifier is loaded too, unless it has
    /// another number of outputs.
    ///
    /// # Errors
    /// [`Error::Download`] if the weights are not available, with the path to place them at;
    /// [`Error::Checkpoint`] if they do not match; [`Error::Unsupported`] if none are published, or for a network
    /// of your own.
    pub fn load_pretrained(&mut self) -> Result<Option<Normalize>> {
        self.load_pretrained_from(&WeightsFrom::published())
    }

    /// Loads weights into the body, as [`load_pretrained`](Self::load_pretrained) does. Returns the
    /// normalization that they were trained with; `None` for a model of this crate that was trained without
    /// one.
    ///
    /// # Errors
    /// As [`load_pretrained`](Self::load_pretrained).
    pub fn load_pretrained_from(&mut self, from: &WeightsFrom) -> Result<Option<Normalize>> {
        let Some((arch, n_in)) = self.arch.clone() else {
            return Err(Error::unsupported(
                "pretrained",
                "a network of your own has no published weights",
            ));
        };
        weights::load(self, &arch, n_in, from)
    }

    /// Returns the architecture of the body; `None` for a network of your own.
    #[must_use]
    pub fn arch(&self) -> Option<&Arch> {
        self.arch.as_ref().map(|(arch, _)| arch)
    }
}

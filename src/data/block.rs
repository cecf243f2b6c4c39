//! `DataBlock`: describes how a source becomes data loaders.

use super::{
    cache::presized::Cache,
    caught::caught,
    items::{
        labeled::{Get, Items, Targets, check, encode, label_of, name_of},
        source::{ImageBlock, ImageSource},
        test_items::Pipeline,
    },
    loaders::DataLoaders,
    loading::{options::LoaderOptions, skip::OnError},
    notes::{collected, some},
    split::splitter::{RandomSplitter, Splits, Splitter},
    target::category::TargetBlock,
    transforms::Transforms,
};
use crate::{
    error::{Error, Result},
    sample::Target,
    transform::{BatchTransform, ItemTransform},
};
use std::{
    collections::{BTreeSet, HashSet},
    fmt::{self, Debug},
    path::{Path, PathBuf},
    sync::Arc,
};
use tch::Device;

/// Lists the items of a source.
type GetItems<I> = Arc<dyn Fn(&Path) -> Result<Vec<I>> + Send + Sync>;

/// Describes how a source becomes data loaders: its items, their labels, the split, the transforms and the
/// batches. fastai's [`DataBlock`](https://docs.fast.ai/data.block.html).
///
/// `I` is the type of an item: a path, or your own type with [`rows`](Self::rows). A block is not consumed,
/// so it can be used for several sources.
///
/// ```no_run
/// use finetune::data::{
///     CategoryBlock, DataBlock, ImageBlock, RandomSplitter, RegexLabeller, get_image_files, using_name,
/// };
///
/// let pets = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
///     .get_items(get_image_files)
///     .splitter(RandomSplitter::new(0.2).seed(42))
///     .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?));
/// let dls = pets.dataloaders("oxford-iiit-pet/images")?;
/// println!("{} and {} photos", dls.train().len(), dls.valid().len());
/// # Ok::<(), finetune::Error>(())
/// ```
pub struct DataBlock<Y: TargetBlock, I = PathBuf> {
    pub(super) input: ImageBlock,
    target: Y,
    get_items: Option<GetItems<I>>,
    pub(super) get_x: Option<Get<I, ImageSource>>,
    get_y: Option<Get<I, Y::Label>>,
    splitter: Arc<dyn Splitter<I>>,
    tfms: Transforms,
    options: LoaderOptions,
    cache: Option<Cache>,
}

impl<Y: TargetBlock, I> Debug for DataBlock<Y, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataBlock")
            .field("input", &self.input)
            .field("target", &self.target)
            .field("tfms", &self.tfms)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<Y: TargetBlock> DataBlock<Y> {
    /// Returns a block whose items are image files.
    #[must_use]
    pub fn blocks(input: ImageBlock, target: Y) -> Self {
        Self::rows(input, target).get_x(|path: &PathBuf| Ok(path.clone()))
    }
}

impl<Y: TargetBlock, I: Send + Sync + 'static> DataBlock<Y, I> {
    /// Returns a block whose items have your own type, such as a row of a table. `get_x` returns the image
    /// of an item.
    ///
    /// ```no_run
    /// use finetune::data::{DataBlock, ImageBlock, RegressionBlock};
    ///
    /// struct Face {
    ///     file: String,
    ///     age: f32,
    /// }
    ///
    /// let faces: Vec<Face> = vec![];
    /// let dls = DataBlock::rows(ImageBlock::rgb(), RegressionBlock::one())
    ///     .get_x(|face: &Face| Ok(format!("faces/{}", face.file)))
    ///     .get_y(|face| Ok(face.age))
    ///     .dataloaders_from(faces)?;
    /// # Ok::<(), finetune::Error>(())
    /// ```
    #[must_use]
    pub fn rows(input: ImageBlock, target: Y) -> Self {
        Self {
            input,
            target,
            get_items: None,
            get_x: None,
            get_y: None,
            splitter: Arc::new(RandomSplitter::new(0.2)),
            tfms: Transforms::new(),
            options: LoaderOptions::new(),
            cache: None,
        }
    }

    /// Sets the function that lists the items of the source, such as
    /// [`get_image_files`](super::get_image_files). Needed by [`dataloaders`](Self::dataloaders).
    #[must_use]
    pub fn get_items(
        mut self,
        get_items: impl Fn(&Path) -> Result<Vec<I>> + Send + Sync + 'static,
    ) -> Self {
        self.get_items = Some(Arc::new(get_items));
        self
    }

    /// Sets the function that returns the image of an item: a path, the bytes of a file, or an
    /// image. Required unless items are paths.
    #[must_use]
    pub fn get_x<X: Into<ImageSource>>(
        mut self,
        get_x: impl Fn(&I) -> Result<X> + Send + Sync + 'static,
    ) -> Self {
        self.get_x = Some(Arc::new(move |item| get_x(item).map(Into::into)));
        self
    }

    /// Sets the function that returns the label of an item. Required. All labels are read before
    /// the first batch.
    #[must_use]
    pub fn get_y(mut self, get_y: impl Fn(&I) -> Result<Y::Label> + Send + Sync + 'static) -> Self {
        self.get_y = Some(Arc::new(get_y));
        self
    }

    /// Sets the split into training and validation. Default: a random 20 % for validation, by
    /// [`RandomSplitter`].
    #[must_use]
    pub fn splitter(mut self, splitter: impl Splitter<I> + 'static) -> Self {
        self.splitter = Arc::new(splitter);
        self
    }

    /// Adds a transform of single images, on the workers. Default: none.
    #[must_use]
    pub fn item_tfms(mut self, tfm: impl ItemTransform + 'static) -> Self {
        self.tfms = self.tfms.item_tfms(tfm);
        self
    }

    /// Adds a transform of batches, such as [`aug_transforms`](crate::transform::aug_transforms). Batch
    /// transforms run in a fixed order. Default: none.
    #[must_use]
    pub fn batch_tfms(mut self, tfm: impl BatchTransform + 'static) -> Self {
        self.tfms = self.tfms.batch_tfms(tfm);
        self
    }

    /// Sets the number of items in a batch. Default: 64.
    #[must_use]
    pub fn bs(mut self, bs: usize) -> Self {
        self.options = self.options.bs(bs);
        self
    }

    /// Sets the number of items in a validation batch. Default: that of training.
    #[must_use]
    pub fn val_bs(mut self, val_bs: usize) -> Self {
        self.options = self.options.val_bs(val_bs);
        self
    }

    /// Sets the number of loading threads; 0 loads on the calling thread. The batches do not depend on it.
    /// Default: one per processor, at most 16.
    #[must_use]
    pub fn num_workers(mut self, num_workers: usize) -> Self {
        self.options = self.options.num_workers(num_workers);
        self
    }

    /// Sets the seed of shuffling and transforms. A splitter has its own. Default: 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options = self.options.seed(seed);
        self
    }

    /// Sets the device of the batches. Default: the first CUDA device, otherwise the CPU.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.options = self.options.device(device);
        self
    }

    /// If true, each training pass has its own random order. Default: true.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.options = self.options.shuffle(shuffle);
        self
    }

    /// If true, the last training batch is dropped if it is not full. Default: same as `shuffle`.
    #[must_use]
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.options = self.options.drop_last(drop_last);
        self
    }

    /// Caches decoded images for later epochs. Default: no cache.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Sets the handling of items that cannot be loaded. Default: [`OnError::Fail`].
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.options = self.options.on_error(on_error);
        self
    }

    /// Lists, labels and splits the items of `source`. Opens no images. The loaders have no type
    /// parameters.
    ///
    /// # Errors
    /// [`Error::Config`] for a missing or invalid option, [`Error::Label`] for an item without a label or
    /// with a label that no training item has, [`Error::EmptySplit`] if there are no training items,
    /// [`Error::Worker`] if one of your closures or your target block panics, and errors of `get_items`. What is
    /// left out without an error is listed in [`DataLoaders::notes`].
    pub fn dataloaders(&self, source: impl AsRef<Path>) -> Result<DataLoaders> {
        let (items, notes) = collected(|| self.items(source.as_ref()));
        let mut dls = self.dataloaders_from(items?)?;
        dls.notes.splice(..0, notes);
        Ok(dls)
    }

    /// As [`dataloaders`](Self::dataloaders), for a list of items.
    ///
    /// # Errors
    /// As [`dataloaders`](Self::dataloaders).
    pub fn dataloaders_from(&self, items: Vec<I>) -> Result<DataLoaders> {
        let get_x = self.get_x.as_ref().ok_or_else(|| missing("get_x"))?.clone();
        let get_y = self.get_y.as_ref().ok_or_else(|| missing("get_y"))?.clone();
        if items.is_empty() {
            return Err(Error::config("get_items", "there are no items"));
        }
        let none = || "the splitter".to_owned();
        let (splits, notes) = collected(|| caught(|| self.splitter.split(&items), none, none));
        let splits = splits?;
        in_one(&splits, &items, &get_x)?;
        if splits.train.is_empty() && !notes.is_empty() {
            return Err(Error::empty_split("training", notes.join("; ")));
        }
        let (targets, target) = self.targets(&items, &splits, &get_x, &get_y)?;
        let input = self.input;
        if target.task().is_spatial() && input.decode_options().reduces() {
            let why = "masks, points and boxes are in pixels of the whole image: decode it in full";
            return Err(Error::config("reduce_to", why));
        }
        let dataset = Items { input, items, get_x: get_x.clone(), targets, task: target.task() };
        let mut dls =
            DataLoaders::from_dataset(dataset, splits, self.tfms.clone(), self.options.clone())?;
        dls.notes.splice(..0, notes);
        if dls.task().vocab().iter().any(|name| name.trim().is_empty()) {
            dls.notes
                .push("a category has an empty name: fix `get_y`, or remove these items".into());
        }
        dls.test_items = Some(Arc::new(Pipeline { input, get_x, get_y, target }));
        match &self.cache {
            Some(cache) => dls.cached(cache),
            None => Ok(dls),
        }
    }

    /// Returns the items of `get_items`.
    pub(super) fn items(&self, source: &Path) -> Result<Vec<I>> {
        let get_items = self.get_items.as_ref().ok_or_else(|| missing("get_items"))?;
        let none = || "get_items".to_owned();
        caught(|| get_items(source), none, none)
    }

    /// Returns the targets of all items that are in a split, and the block that was fitted for them.
    fn targets(
        &self,
        items: &[I],
        splits: &Splits,
        get_x: &Get<I, ImageSource>,
        get_y: &Get<I, Y::Label>,
    ) -> Result<(Targets, Y)> {
        let mut labels: Vec<Option<Y::Label>> = items.iter().map(|_| None).collect();
        for &i in splits.train.iter().chain(&splits.valid) {
            let beyond = || {
                let why = format!("position {i} is beyond the {} items", items.len());
                Error::config("splitter", why)
            };
            let label = labels.get_mut(i).ok_or_else(beyond)?;
            if label.is_none() {
                *label = Some(label_of(items, get_x, get_y, i)?);
            }
        }
        let mut target = self.target.clone();
        // An empty split has its own error, which is clearer than that of an empty vocabulary.
        if !splits.train.is_empty() {
            let none = || "the target block".to_owned();
            let mut known = splits.train.iter().filter_map(|&i| labels[i].as_ref());
            caught(|| target.setup(&mut known), none, none)?;
        }
        if target.deferred() {
            let known = labels.iter().enumerate().filter_map(|(i, l)| Some((i, l.as_ref()?)));
            for (i, label) in known {
                check(&target, label, || name_of(items, get_x, i))?;
            }
            return Ok((Targets::deferred(&target, labels), target));
        }
        let encode = |(i, label): (usize, Option<Y::Label>)| match label {
            Some(_) if splits.train.is_empty() => Ok(Target::None),
            Some(label) => encode(&target, &label, || name_of(items, get_x, i)),
            None => Ok(Target::None),
        };
        let targets = labels.into_iter().enumerate().map(encode).collect::<Result<_>>()?;
        Ok((Targets::Made(targets), target))
    }
}

/// Returns an error if an item is in both splits.
fn in_one<I>(splits: &Splits, items: &[I], get_x: &Get<I, ImageSource>) -> Result<()> {
    let train: HashSet<usize> = splits.train.iter().copied().collect();
    let valid: BTreeSet<usize> = splits.valid.iter().copied().collect();
    let both: Vec<usize> = valid.into_iter().filter(|i| train.contains(i)).collect();
    if both.is_empty() {
        return Ok(());
    }
    let n = both.len();
    let names = some(
        both.into_iter()
            .filter(|i| *i < items.len())
            .map(|i| name_of(items, get_x, i))
            .collect::<Vec<_>>()
            .into_iter(),
    );
    let why = format!(
        "{n} items are in both the training and the validation split: {names}. The metrics would be too \
         optimistic; each item must be in one split only"
    );
    Err(Error::config("splitter", why))
}

fn missing(option: &'static str) -> Error {
    Error::config(option, "is required before `dataloaders`")
}

//! The loader: divides a list of items into batches.

use super::{
    arrays::Arrays,
    batch::{BatchJob, Piece},
    options::{LoaderOptions, Settings},
    order,
    pass::{Draw, Pass},
    pool::Pool,
    prefetch::Prefetch,
    share::{BatchPart, Share},
    skip::{Skipped, SkippedItem},
};
use crate::{
    data::{
        cache::presized::Presized,
        caught,
        dataset::{Dataset, beyond},
        notes,
    },
    error::{Error, Result},
    sample::{Batch, Sample, Split, Target, Task},
    seed::Stream,
    sys,
    transform::{BatchTransform, ItemTransform},
};
use std::{fmt, sync::Arc};
use tch::Device;

/// Loads a list of items in batches on a device: the training or the validation loader of
/// [`DataLoaders`](crate::data::DataLoaders). A clone is another handle to the same data.
///
/// A pass over the data is identified by its number. Everything random in it is derived from the
/// seed and that number: the order, the item transforms of each item, the batch transforms of each
/// batch. A pass is therefore the same for any number of workers, and can start at any batch.
#[derive(Clone)]
pub struct DataLoader {
    data: Data,
    items: Arc<[usize]>,
    /// The running sums of the items' weights, if items are drawn by weight.
    weights: Option<Arc<[f64]>>,
    settings: Settings,
    pool: Arc<Pool>,
}

#[derive(Clone)]
pub(in crate::data) enum Data {
    Images(Images),
    Arrays(Arc<Arrays>),
}

/// Images and their transforms.
#[derive(Clone)]
pub(in crate::data) struct Images {
    pub(in crate::data) dataset: Arc<dyn Dataset>,
    pub(in crate::data) item_tfms: Arc<[Arc<dyn ItemTransform>]>,
    pub(in crate::data) batch_tfms: Arc<[Arc<dyn BatchTransform>]>,
    pub(in crate::data) skipped: Arc<Skipped>,
    pub(in crate::data) presized: Option<Presized>,
}

impl fmt::Debug for DataLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLoader")
            .field("items", &self.items.len())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl DataLoader {
    pub(in crate::data) fn new(
        data: Data,
        items: Vec<usize>,
        settings: Settings,
        pool: Option<Arc<Pool>>,
    ) -> Result<Self> {
        let pool = pool.filter(|p| p.workers() == settings.workers);
        let pool = pool.unwrap_or_else(|| Arc::new(Pool::new(settings.workers)));
        Self { data, items: items.into(), weights: None, settings, pool }.checked()
    }

    fn checked(self) -> Result<Self> {
        let (n, bs) = (self.items.len(), self.settings.bs);
        if bs == 0 {
            return Err(Error::config("bs", "is 0; it must be 1 or more"));
        }
        sys::check_device(self.settings.device)?;
        if n > 0 && bs > n && self.settings.drop_last() {
            let why = format!(
                "is {bs}, more than the {n} training items, and the last, partial batch is dropped: \
                 use {n} or less, or `drop_last(false)`"
            );
            return Err(Error::config("bs", why));
        }
        Ok(self)
    }

    /// Returns a loader of the same data with other settings.
    ///
    /// # Errors
    /// [`Error::Config`] if the batch size is 0, or larger than the number of items while the last partial
    /// batch is dropped; [`Error::Unsupported`] if the device is not available.
    ///
    /// ```no_run
    /// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
    /// use finetune::{data::LoaderOptions, sample::Split};
    ///
    /// // The training items as in validation: all of them, in order, center crops.
    /// let options = LoaderOptions::new().shuffle(false).drop_last(false).split(Split::Valid);
    /// let plain = dls.train().with(options)?;
    /// # Ok(()) }
    /// ```
    pub fn with(&self, options: LoaderOptions) -> Result<Self> {
        if let Some(val_bs) = options.val_bs {
            let why = format!("is {val_bs}, but this is a single loader: use `bs`");
            return Err(Error::config("val_bs", why));
        }
        self.with_options(options)
    }

    /// As [`with`](Self::with), for one of two loaders.
    pub(in crate::data) fn with_options(&self, options: LoaderOptions) -> Result<Self> {
        let mut new = self.clone();
        new.forget_skipped();
        if options.shuffle == Some(false) {
            new.weights = None;
        }
        options.apply(&mut new.settings);
        if new.settings.workers != new.pool.workers() {
            new.pool = Arc::new(Pool::new(new.settings.workers));
        }
        new.checked()
    }

    /// Returns the same items with the transforms of training or of validation.
    #[must_use]
    pub fn with_split(&self, split: Split) -> Self {
        let (shuffle, drop_last) = (self.settings.shuffle, Some(self.settings.drop_last()));
        let settings = Settings { split, shuffle, drop_last, ..self.settings.clone() };
        let mut new = Self { settings, ..self.clone() };
        new.forget_skipped();
        new
    }

    /// Returns the items of this loader that have been skipped so far because they could not be loaded, by
    /// index; see [`OnError::Skip`](crate::data::OnError::Skip). A loader derived from this one, for
    /// example by [`with`](Self::with) or [`subset`](Self::subset), has its own list.
    #[must_use]
    pub fn skipped(&self) -> Vec<SkippedItem> {
        match &self.data {
            Data::Images(images) => images.skipped.list(),
            Data::Arrays(_) => vec![],
        }
    }

    /// Starts a new list of skipped items.
    pub(in crate::data) fn forget_skipped(&mut self) {
        if let Data::Images(images) = &mut self.data {
            images.skipped = Arc::default();
        }
    }

    /// Returns the name of an item. Names are computed by user code, which may panic.
    pub(in crate::data) fn name(&self, item: usize) -> String {
        caught::name(|item| self.dataset().name(item), item)
    }

    /// Returns the target of an item. It is computed by user code, which may panic.
    pub(crate) fn target(&self, item: usize) -> Result<Target> {
        caught::target(self.dataset(), item)
    }

    /// Returns the cache of decoded images, if there is one.
    pub(in crate::data) fn presized(&self) -> Option<&Presized> {
        match &self.data {
            Data::Images(images) => images.presized.as_ref(),
            Data::Arrays(_) => None,
        }
    }

    /// Returns the running sums of the items' weights, if items are drawn by weight.
    pub(crate) fn weight_sums(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// Returns the same loader with items drawn by weight, given the running sums of their weights.
    pub(in crate::data) fn with_weights(&self, sums: Arc<[f64]>) -> Self {
        Self { weights: Some(sums), ..self.clone() }
    }

    /// Returns a loader of other items of the same data set, given by index, with the same settings. An index that
    /// is given several times is transformed differently each time.
    ///
    /// # Errors
    /// [`Error::Config`] if an index is beyond the data set, or if the batch size is larger than the number of
    /// items while the last partial batch is dropped.
    pub fn subset(&self, items: impl Into<Vec<usize>>) -> Result<Self> {
        let items = items.into();
        let n = self.dataset().len();
        if let Some(far) = items.iter().find(|&&i| i >= n) {
            return Err(Error::config("items", format!("index {far} is beyond the {n} items")));
        }
        let mut new = Self { items: items.into(), weights: None, ..self.clone() };
        new.forget_skipped();
        new.checked()
    }

    /// Returns the number of items. A pass may drop the last few; see [`num_batches`](Self::num_batches).
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns true if there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the number of batches in a pass.
    #[must_use]
    pub fn num_batches(&self) -> usize {
        let (n, bs) = (self.items.len(), self.settings.bs);
        if self.settings.drop_last() { n / bs } else { n.div_ceil(bs) }
    }

    /// Returns the number of items in a full batch.
    #[must_use]
    pub fn bs(&self) -> usize {
        self.settings.bs
    }

    /// Returns the number of loading threads; 0 means the calling thread.
    #[must_use]
    pub fn num_workers(&self) -> usize {
        self.settings.workers
    }

    /// Returns the split whose transforms apply.
    #[must_use]
    pub fn split(&self) -> Split {
        self.settings.split
    }

    /// Returns the indices of the items in the data set, in unshuffled order.
    #[must_use]
    pub fn items(&self) -> &[usize] {
        &self.items
    }

    /// Returns the data set, which both loaders share.
    #[must_use]
    pub fn dataset(&self) -> &dyn Dataset {
        match &self.data {
            Data::Images(images) => &*images.dataset,
            Data::Arrays(arrays) => &**arrays,
        }
    }

    /// Returns the task, which describes the targets.
    #[must_use]
    pub fn task(&self) -> Task {
        self.dataset().task()
    }

    /// Returns the device of the batches.
    #[must_use]
    pub fn device(&self) -> Device {
        self.settings.device
    }

    /// Returns the item transforms; empty for arrays.
    #[must_use]
    pub fn item_tfms(&self) -> &[Arc<dyn ItemTransform>] {
        match &self.data {
            Data::Images(images) => &images.item_tfms,
            Data::Arrays(_) => &[],
        }
    }

    /// Returns the batch transforms in the order in which they run; empty for arrays.
    #[must_use]
    pub fn batch_tfms(&self) -> &[Arc<dyn BatchTransform>] {
        match &self.data {
            Data::Images(images) => &images.batch_tfms,
            Data::Arrays(_) => &[],
        }
    }

    /// Returns true if the items are images, not rows of arrays.
    #[must_use]
    pub fn has_images(&self) -> bool {
        matches!(self.data, Data::Images(_))
    }

    pub(in crate::data) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(in crate::data) fn data(&self) -> &Data {
        &self.data
    }

    pub(in crate::data) fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    pub(in crate::data) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Shares the threads of another loader, if their number is the same.
    pub(in crate::data) fn sharing(mut self, other: &Self) -> Self {
        if other.pool.workers() == self.pool.workers() {
            self.pool = other.pool.clone();
        }
        self
    }

    /// Returns the batches of a pass. They are loaded ahead; dropping the iterator stops loading.
    #[must_use]
    pub fn batches(&self, pass: u64) -> Batches {
        self.batches_from(pass, 0)
    }

    /// Returns the batches of a pass from number `first` on, bitwise identical to those of
    /// [`batches`](Self::batches). Earlier batches are not loaded.
    #[must_use]
    pub fn batches_from(&self, pass: u64, first: usize) -> Batches {
        let parts = self.parts_from(pass, first, Share::WHOLE);
        // A resumed pass may be empty.
        let expects = first == 0 && self.num_batches() > 0;
        Batches { parts, loader: expects.then(|| self.clone()) }
    }

    /// Returns the part of `share` of the batches of a pass from number `first` on. An item is transformed
    /// in the same way for any share.
    pub(crate) fn parts_from(&self, pass: u64, first: usize, share: Share) -> BatchParts {
        let device = self.settings.device;
        let chunks = Chunks {
            order: self.order(pass),
            bs: self.settings.bs,
            next: first.min(self.num_batches()),
            end: self.num_batches(),
            share,
        };
        let kind = match (&self.data, self.pool.threads()) {
            (Data::Arrays(arrays), _) => Kind::Arrays { arrays: arrays.clone(), chunks },
            (_, Err(e)) => Kind::Failed(Some(e)),
            (Data::Images(images), Ok(pool)) => {
                let pass = self.pass(images, pass);
                let cache = images.presized.clone();
                Kind::Images(Prefetch::new(pool, Jobs { pass, chunks }), cache)
            }
        };
        BatchParts { kind, device }
    }

    /// Returns the first batch of pass 0.
    ///
    /// # Errors
    /// Errors of its items, and [`Error::EmptySplit`] if there are none.
    pub fn one_batch(&self) -> Result<Batch> {
        let none = || self.empty("it has no batch");
        self.batches(0).next().unwrap_or_else(|| Err(none()))
    }

    fn empty(&self, why: impl Into<String>) -> Error {
        let split = match self.settings.split {
            Split::Train => "training",
            Split::Valid => "validation",
        };
        Error::empty_split(split, why)
    }

    /// Returns the error of a pass in which every item was skipped.
    pub(crate) fn all_skipped(&self) -> Error {
        let skipped = self.skipped();
        let whys = notes::some(skipped.iter().map(|s| s.why.clone()));
        self.empty(format!("all {} items of the pass were skipped: {whys}", skipped.len()))
    }

    /// Returns an item of pass `pass` after the item transforms.
    ///
    /// # Errors
    /// [`Error::Config`] if the index is beyond the data set, [`Error::Mismatch`] if the data are arrays, and
    /// errors of loading the item.
    pub fn sample(&self, item: usize, pass: u64) -> Result<Sample> {
        if item >= self.dataset().len() {
            return Err(beyond(item));
        }
        match &self.data {
            Data::Images(images) => {
                let pass = self.pass(images, pass);
                let name = || pass.name(item);
                caught::caught(
                    || pass.sample(Draw { item, again: 0 }),
                    name,
                    || caught::position(item),
                )
            }
            Data::Arrays(arrays) => arrays.get(item),
        }
    }

    fn pass(&self, images: &Images, pass: u64) -> Arc<Pass> {
        Arc::new(Pass {
            dataset: images.dataset.clone(),
            item_tfms: images.item_tfms.clone(),
            batch_tfms: images.batch_tfms.clone(),
            split: self.settings.split,
            seed: self.settings.seed,
            pass,
            task: images.dataset.task(),
            on_error: self.settings.on_error,
            presized: images.presized.clone(),
            skipped: images.skipped.clone(),
            on_workers: self.settings.device == Device::Cpu,
            buffers: self.pool.buffers().clone(),
        })
    }

    /// Returns the draws of a pass, in order.
    fn order(&self, pass: u64) -> Vec<Draw> {
        let mut rng = self.settings.seed.rng(Stream::Shuffle { pass });
        let mut uses = vec![0_u32; self.items.iter().max().map_or(0, |most| most + 1)];
        let mut draw = |item: usize| {
            uses[item] += 1;
            Draw { item, again: uses[item] - 1 }
        };
        if let Some(sums) = &self.weights {
            let drawn = order::weighted(sums, self.items.len(), &mut rng);
            return drawn.into_iter().map(|k| draw(self.items[k])).collect();
        }
        let mut draws: Vec<Draw> = self.items.iter().map(|&item| draw(item)).collect();
        if self.settings.shuffle {
            order::shuffle(&mut draws, &mut rng);
        }
        draws
    }
}

/// The draws of a pass, divided into batches.
struct Chunks {
    order: Vec<Draw>,
    bs: usize,
    next: usize,
    end: usize,
    share: Share,
}

impl Iterator for Chunks {
    type Item = (u64, Piece);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        if index == self.end {
            return None;
        }
        self.next += 1;
        let end = ((index + 1) * self.bs).min(self.order.len());
        let batch = &self.order[index * self.bs..end];
        let (mut own, whole) = (self.share.range(batch.len()), batch.len());
        let stand_in = own.is_empty();
        if stand_in {
            // Every process needs a batch to run its network.
            let one = own.start.min(whole - 1);
            own = one..one + 1;
        }
        let first = own.start;
        Some((index as u64, Piece { draws: batch[own].to_vec(), first, whole, stand_in }))
    }
}

struct Jobs {
    pass: Arc<Pass>,
    chunks: Chunks,
}

impl Iterator for Jobs {
    type Item = BatchJob;

    fn next(&mut self) -> Option<BatchJob> {
        let (index, piece) = self.chunks.next()?;
        Some(BatchJob::new(self.pass.clone(), index, piece))
    }
}

/// The batches of one pass, in order, on their device. An error affects only that batch; later
/// batches may still succeed.
#[derive(Debug)]
pub struct Batches {
    parts: BatchParts,
    /// The loader, for the error of a pass without batches; `None` once a batch or an error was returned.
    loader: Option<DataLoader>,
}

/// The part of one process of the batches of one pass, in order.
pub(crate) struct BatchParts {
    kind: Kind,
    device: Device,
}

enum Kind {
    Images(Prefetch<BatchJob, Jobs>, Option<Presized>),
    Arrays { arrays: Arc<Arrays>, chunks: Chunks },
    Failed(Option<Error>),
}

impl fmt::Debug for BatchParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchParts").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(part) = self.parts.next() else {
                return self.loader.take().map(|loader| Err(loader.all_skipped()));
            };
            match part {
                // Every item was skipped.
                Ok(BatchPart { batch: None, .. }) => continue,
                Ok(BatchPart { batch: Some(batch), .. }) => {
                    self.loader = None;
                    return Some(Ok(batch));
                }
                Err(e) => {
                    self.loader = None;
                    return Some(Err(e));
                }
            }
        }
    }
}

impl Iterator for BatchParts {
    type Item = Result<BatchPart>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.kind {
            Kind::Images(batches, cache) => match batches.next() {
                Some(Ok(part)) => {
                    let placed = part.placed_on(self.device);
                    // Must come after `placed_on`, which returns this batch's byte buffer to the
                    // pool.
                    batches.run_ahead();
                    Some(placed)
                }
                Some(Err(e)) => Some(Err(e)),
                None => {
                    if let Some(cache) = cache.take() {
                        cache.settle();
                    }
                    None
                }
            },
            Kind::Arrays { arrays, chunks } => {
                let (_, Piece { draws, first, whole, stand_in }) = chunks.next()?;
                let items: Vec<usize> = draws.into_iter().map(|d| d.item).collect();
                let places = (first..first + items.len()).collect();
                let batch = arrays.batch(items, self.device);
                Some(batch.map(|batch| BatchPart { batch: Some(batch), places, whole, stand_in }))
            }
            Kind::Failed(e) => e.take().map(Err),
        }
    }
}

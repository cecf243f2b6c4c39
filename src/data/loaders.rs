//! The loaders of a data set: training and validation.

use super::{
    cache::{presized::Presized, store::Store},
    caught,
    dataset::Dataset,
    items::test_items::TestItems,
    loading::{
        arrays::Arrays,
        loader::{Data, DataLoader, Images},
        options::{LoaderOptions, Settings},
        skip::{Skipped, SkippedItem},
    },
    notes,
    split::splitter::Splits,
    transforms::Transforms,
};
use crate::{
    distributed::default_device,
    error::{Error, Result},
    sample::{Split, Task},
    seed::Seed,
    sys::{self, CudaStatus},
    transform::{BatchTransform, ItemTransform},
};
use std::sync::Arc;
use tch::Device;

/// The training and the validation loader of one data set. A clone is another handle to the same
/// data.
#[derive(Debug, Clone)]
pub struct DataLoaders {
    train: DataLoader,
    valid: DataLoader,
    pub(super) test_items: Option<Arc<dyn TestItems>>,
    pub(super) notes: Vec<String>,
}

impl DataLoaders {
    /// Creates loaders of your own data set; see [`Dataset`] for an example. `tfms` and `options` contain the
    /// settings of a [`DataBlock`](super::DataBlock).
    ///
    /// # Errors
    /// [`Error::EmptySplit`] if there are no training items, [`Error::Config`] if an index is beyond the
    /// data set or an option is invalid, [`Error::Unsupported`] if the device is not available. Items in both
    /// splits are allowed and reported in [`notes`](Self::notes).
    pub fn from_dataset(
        dataset: impl Dataset + 'static,
        splits: Splits,
        tfms: Transforms,
        options: LoaderOptions,
    ) -> Result<Self> {
        tfms.check()?;
        let mut images = Images {
            dataset: Arc::new(dataset),
            item_tfms: tfms.item.into(),
            batch_tfms: tfms.batch.into(),
            skipped: Arc::new(Skipped::default()),
            presized: None,
        };
        images.sort();
        Self::new(&Data::Images(images), splits, options)
    }

    /// Creates loaders of arrays in memory, of any shape, instead of images. The items of `valid` follow
    /// those of `train` in the data set.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the row shapes or tasks of both differ, [`Error::EmptySplit`] if `train` has no
    /// rows, [`Error::Config`] if an option is invalid, [`Error::Unsupported`] if the device is not available.
    ///
    /// ```
    /// use finetune::{data::{Arrays, DataLoaders, LoaderOptions}, sample::Task};
    /// use finetune::tch::{Device, Kind, Tensor};
    ///
    /// let task = Task::Category { vocab: ["no".into(), "yes".into()].into() };
    /// let x = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([6, 2]);
    /// let y = Tensor::from_slice(&[0i64, 1, 0, 1, 0, 1]);
    /// let rows = Arrays::from_tensors(&x, &y, task)?;
    /// let options = LoaderOptions::new().bs(4).shuffle(false).device(Device::Cpu);
    /// let dls = DataLoaders::from_arrays(rows.clone(), rows, options)?;
    /// let sizes: Vec<_> = dls.train().batches(0).map(|b| b.unwrap().x.size()).collect();
    /// assert_eq!(sizes, [[4, 2], [2, 2]]);
    /// # Ok::<(), finetune::Error>(())
    /// ```
    pub fn from_arrays(train: Arrays, valid: Arrays, options: LoaderOptions) -> Result<Self> {
        let n = train.len();
        let both = train.join(valid)?;
        let splits = Splits { train: (0..n).collect(), valid: (n..both.len()).collect() };
        Self::new(&Data::Arrays(Arc::new(both)), splits, options)
    }

    fn new(data: &Data, splits: Splits, options: LoaderOptions) -> Result<Self> {
        let mut notes = vec![];
        let device = options.device_or(|| {
            if let CudaStatus::NotLoadable(why) = sys::cuda() {
                notes.push(format!("batches are on the CPU, since a GPU cannot be used: {why}"));
            }
            default_device()
        });
        let side = |split, items: Vec<usize>, options: LoaderOptions, pool| {
            let mut settings = Settings::new(split, device);
            options.apply(&mut settings);
            DataLoader::new(data.clone(), items, settings, pool)
        };
        let n = match data {
            Data::Images(images) => images.dataset.len(),
            Data::Arrays(arrays) => arrays.len(),
        };
        if let Some(far) = splits.train.iter().chain(&splits.valid).find(|&&i| i >= n) {
            let why = format!("position {far} is beyond the {n} items");
            return Err(Error::config("splitter", why));
        }
        if splits.train.is_empty() {
            let why = match splits.valid.len() {
                0 => format!("the splitter selected none of the {n} items"),
                valid => format!("the splitter put {valid} of {n} items into validation"),
            };
            return Err(Error::empty_split("training", why));
        }
        if let Data::Images(images) = data {
            notes.extend(judged(&splits, &*images.dataset));
        }
        let for_valid = options.for_valid();
        let train = side(Split::Train, splits.train, options, None)?;
        let mut valid = side(Split::Valid, splits.valid, for_valid, Some(train.pool().clone()))?;
        valid.forget_skipped();
        Ok(Self { train, valid, test_items: None, notes })
    }

    /// Returns the training loader: shuffled, last partial batch dropped, random transforms.
    #[must_use]
    pub fn train(&self) -> &DataLoader {
        &self.train
    }

    /// Returns the validation loader: all items in fixed order.
    #[must_use]
    pub fn valid(&self) -> &DataLoader {
        &self.valid
    }

    /// Returns the loader of a split.
    #[must_use]
    pub fn loader(&self, split: Split) -> &DataLoader {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
        }
    }

    /// Returns loaders of the same data with other settings. `bs` applies to both splits unless there is a
    /// `val_bs`; `shuffle`, `drop_last` and `split` apply to training.
    ///
    /// # Errors
    /// As [`DataLoader::with`].
    pub fn with(&self, options: LoaderOptions) -> Result<Self> {
        let valid = self.valid.with_options(options.for_valid())?;
        let train = self.train.with_options(options)?;
        let valid = valid.sharing(&train);
        Ok(Self { train, valid, ..self.clone() })
    }

    /// Returns the same loaders with decoded images cached in `store`.
    pub(super) fn with_store(&self, store: &Arc<dyn Store>) -> Result<Self> {
        let mut new = self.clone();
        for side in [&mut new.train, &mut new.valid] {
            let Data::Images(images) = side.data_mut() else {
                return Err(Error::config(
                    "cache",
                    "the data are arrays, which are already in memory",
                ));
            };
            let first = images.item_tfms.first().cloned();
            images.presized = Some(Presized::new(store.clone(), &*images.dataset, first));
        }
        Ok(new)
    }

    /// Returns the same loaders with another training loader.
    pub(super) fn with_train(&self, train: DataLoader) -> Self {
        Self { train, ..self.clone() }
    }

    /// Returns the task: the kind of the targets.
    #[must_use]
    pub fn task(&self) -> Task {
        self.train.task()
    }

    /// Returns the device of the batches.
    #[must_use]
    pub fn device(&self) -> Device {
        self.train.device()
    }

    /// Returns the seed of shuffling and transforms.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.train.settings().seed
    }

    /// Returns the name of an item: its file, if it has one.
    #[must_use]
    pub fn name(&self, item: usize) -> String {
        self.train.name(item)
    }

    /// Returns the item transforms.
    #[must_use]
    pub fn item_tfms(&self) -> &[Arc<dyn ItemTransform>] {
        self.train.item_tfms()
    }

    /// Returns the batch transforms in the order in which they run.
    #[must_use]
    pub fn batch_tfms(&self) -> &[Arc<dyn BatchTransform>] {
        self.train.batch_tfms()
    }

    /// Adds a batch transform to both loaders, at the position given by its order.
    ///
    /// # Errors
    /// [`Error::Config`] if the data are arrays, which have no transforms, or if an option of the transform
    /// is invalid.
    pub fn add_batch_tfm(&mut self, tfm: impl BatchTransform + 'static) -> Result<()> {
        tfm.check()?;
        let tfm: Arc<dyn BatchTransform> = Arc::new(tfm);
        for side in [&mut self.train, &mut self.valid] {
            let Data::Images(images) = side.data_mut() else {
                let why = "the data are arrays, not images: transform the values beforehand";
                return Err(Error::config("batch_tfms", why));
            };
            images.batch_tfms = images.batch_tfms.iter().cloned().chain([tfm.clone()]).collect();
            images.sort();
        }
        Ok(())
    }

    /// Returns the items of both splits that have been skipped so far because they could not be loaded, by
    /// index; see [`OnError::Skip`](super::OnError::Skip). Each loader has its own list:
    /// [`DataLoader::skipped`].
    #[must_use]
    pub fn skipped(&self) -> Vec<SkippedItem> {
        let mut skipped = [self.train.skipped(), self.valid.skipped()].concat();
        skipped.sort_by_key(|s| s.item);
        skipped.dedup_by_key(|s| s.item);
        skipped
    }

    /// Returns readable messages about what was left out without an error: files that were not listed,
    /// items in neither split, splits without items; and why a GPU is not used, if this libtorch has CUDA libraries
    /// that cannot be loaded. Included in [`summary`](Self::summary) and [`check`](Self::check).
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Returns messages about splits: items in both or in neither, an empty validation split.
fn judged(splits: &Splits, dataset: &dyn Dataset) -> Vec<String> {
    let mut uses = vec![(false, false); dataset.len()];
    splits.train.iter().for_each(|&i| uses[i].0 = true);
    splits.valid.iter().for_each(|&i| uses[i].1 = true);
    let those = |use_: (bool, bool)| {
        let found: Vec<usize> = (0..uses.len()).filter(|&i| uses[i] == use_).collect();
        let name = |&i: &usize| caught::name(|i| dataset.name(i), i);
        (found.len(), notes::some(found.iter().map(name)))
    };
    let mut notes = vec![];
    let (n, names) = those((true, true));
    if n > 0 {
        notes.push(format!(
            "{n} items are in both splits, so the metrics are too optimistic: {names}"
        ));
    }
    let (n, names) = those((false, false));
    if n > 0 {
        let of = uses.len();
        notes.push(format!("{n} of {of} items are in neither split and are not used: {names}"));
    }
    if splits.valid.is_empty() {
        notes.push("the validation split has no items: there will be no metrics".to_owned());
    }
    notes
}

impl Images {
    /// Sorts the batch transforms into the order in which they run; transforms with equal order keep their
    /// positions.
    fn sort(&mut self) {
        let mut tfms = self.batch_tfms.to_vec();
        tfms.sort_by_key(|t| t.order());
        self.batch_tfms = tfms.into();
    }
}

//! Decoded images, resized as far as that is the same in every epoch, kept for later epochs.

use super::{
    file::FileStore,
    memory::MemoryStore,
    store::{CacheStatus, Key, Store, Version},
};
use crate::{
    data::dataset::Dataset,
    error::{Error, Result},
    sample::{Sample, Split},
    transform::ItemTransform,
};
use sha2::{Digest as _, Sha256};
use std::{
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

/// Where decoded images are kept, so that epochs after the first do not decode.
///
/// What is kept is what the first item transform says is the same in every epoch (see
/// [`ItemTransform::presize`](crate::transform::ItemTransform::presize)): for
/// [`Resize`](crate::transform::Resize) in training the whole image, scaled so that the crop has its
/// final size already, and in validation its result; for other transforms the decoded image. Random
/// crops still differ from epoch to epoch. They are cut at whole pixels of the scaled image, where
/// without a cache they are cut at whole pixels of the original and scaled then, so training crops
/// differ from those without a cache by less than a pixel in place; validation images are the same bit
/// for bit. Batches do not depend on what is in the cache already, or on its limit.
///
/// An image is known by its file, the file's size and time of modification, how it is decoded, and the
/// transform: whatever changes, it is loaded anew. Items that are not in files are not kept.
///
/// ```no_run
/// use finetune::data::{Cache, CategoryBlock, DataBlock, ImageBlock, get_image_files, parent_label};
/// use finetune::transform::Resize;
///
/// let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
///     .get_items(get_image_files)
///     .get_y(parent_label)
///     .item_tfms(Resize::new(460))
///     .cache(Cache::file("photos.cache", 20 << 30))
///     .dataloaders("photos")?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    file: Option<PathBuf>,
    limit: u64,
}

impl Cache {
    /// In memory, `limit` bytes at most. A square of 460 pixels takes 635 kB, and a photo of 4:3 for
    /// crops of that size 846 kB.
    #[must_use]
    pub fn memory(limit: u64) -> Self {
        Self { file: None, limit }
    }

    /// In one file, mapped into memory, `limit` bytes at most, which serves later runs too.
    ///
    /// The file is written beside its place and renamed at the end of a pass, so what is there is
    /// whole, and several runs may use it at the same time; what they add is joined. While a new file
    /// takes the place of an old one there is room needed for both. No other program may write to it or
    /// shorten it: the operating system ends a program that reads beyond the end of a mapped file.
    pub fn file(path: impl Into<PathBuf>, limit: u64) -> Self {
        Self { file: Some(path.into()), limit }
    }

    pub(super) fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(match &self.file {
            Some(path) => Arc::new(FileStore::open(path, self.limit)?),
            None => Arc::new(MemoryStore::new(self.limit)),
        })
    }
}

/// A store for the images of one data set before one transform.
#[derive(Debug, Clone)]
pub(in crate::data) struct Presized {
    store: Arc<dyn Store>,
    tfm: Option<Arc<dyn ItemTransform>>,
    what: Arc<str>,
}

impl Presized {
    pub(in crate::data) fn new(
        store: Arc<dyn Store>,
        dataset: &dyn Dataset,
        tfm: Option<Arc<dyn ItemTransform>>,
    ) -> Self {
        // Masks, points and boxes are in pixels of the image itself.
        let tfm = tfm.filter(|_| !dataset.task().is_spatial());
        // Another version of this crate may resize differently.
        let version = env!("CARGO_PKG_VERSION");
        let what = format!("{version} {} {tfm:?}", dataset.decoding()).into();
        Self { store, tfm, what }
    }

    /// The sample of an item, with an image that stands for the decoded one. The same whether it is
    /// kept already, is kept now or there is no room.
    pub(in crate::data) fn get(
        &self,
        dataset: &dyn Dataset,
        item: usize,
        split: Split,
    ) -> Result<Sample> {
        let Some(key) = dataset.file(item).and_then(|path| self.key(&path, split)) else {
            return dataset.get(item);
        };
        if let Some(image) = self.store.get(&key) {
            let mut sample = Sample::new(image, dataset.target(item)?);
            if self.tfm.is_some() {
                // The size of the original is not kept.
                sample.set_placement(None);
            }
            return Ok(sample);
        }
        let mut sample = dataset.get(item)?;
        if let Some(tfm) = &self.tfm {
            let presized = tfm
                .presize(&sample.image, split)
                .map_err(Error::transform(tfm, dataset.name(item)))?;
            sample.image = presized.unwrap_or(sample.image);
            sample.set_placement(None);
        }
        self.store.put(&key, &sample.image);
        Ok(sample)
    }

    pub(in crate::data) fn settle(&self) {
        self.store.settle();
    }

    pub(in crate::data) fn status(&self) -> CacheStatus {
        self.store.status()
    }

    /// None where there is no file to load.
    fn key(&self, path: &Path, split: Split) -> Option<Key> {
        let version = Version::of(path)?;
        let path = absolute(path).ok()?;
        let mut hash = Sha256::new();
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0, u8::from(split == Split::Valid)]);
        hash.update(self.what.as_bytes());
        let id = hash.finalize()[..16].try_into().map(u128::from_le_bytes).ok()?;
        Some(Key { path, id, version })
    }
}

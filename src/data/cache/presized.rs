//! A cache of decoded images, with the part of the resizing that is the same in every epoch applied.

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

/// A cache of decoded images, so that epochs after the first do not decode.
///
/// The first item transform determines what is cached; see
/// [`ItemTransform::presize`](crate::transform::ItemTransform::presize). For
/// [`Resize`](crate::transform::Resize), it is the whole image in training, scaled so that the crop already
/// has its final size, and the result in validation; for other transforms, the decoded image. Random crops
/// still differ from epoch to epoch. With a cache, they are cut at whole pixels of the scaled image;
/// without, at whole pixels of the original. Training crops are therefore shifted by less than a pixel
/// compared to those without a cache; validation images are bitwise identical. Batches do not depend on the
/// current content of the cache, or on its limit.
///
/// The cache key of an image is its file, the file's size and modification time, the decoding options, and
/// the transform: if any of these changes, the image is loaded again. Items without a file are not cached.
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
    /// Returns a cache in memory of at most `limit` bytes. A square of 460 pixels takes 635 kB, and a 4:3
    /// photo for crops of that size 846 kB.
    #[must_use]
    pub fn memory(limit: u64) -> Self {
        Self { file: None, limit }
    }

    /// Returns a cache in one file of at most `limit` bytes, mapped into memory. Later runs use it too.
    ///
    /// The file is written to a temporary file in the same folder and renamed at the end of a pass, so it
    /// is always complete. Several runs may use it at the same time; their additions are merged. While a
    /// new file replaces an old one, there must be disk space for both. No other program may write to it or
    /// truncate it: the operating system kills a program that reads beyond the end of a mapped file.
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

/// A store for the images of one data set before a transform.
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
        // Masks, points and boxes are in pixels of the original image.
        let tfm = tfm.filter(|_| !dataset.task().is_spatial());
        // Another version of this crate may resize differently.
        let version = env!("CARGO_PKG_VERSION");
        let what = format!("{version} {} {tfm:?}", dataset.decoding()).into();
        Self { store, tfm, what }
    }

    /// Returns the sample of an item, with an image that stands for the decoded one. The result is the same
    /// whether the image was cached before, is cached now, or does not fit.
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
                // The size of the original image is not stored.
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

    /// Returns the cache key; `None` if the file does not exist.
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

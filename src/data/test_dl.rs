//! Loaders of items outside the data set.

use super::{
    items::{
        labeled::{Get, Items, Targets},
        source::{ImageBlock, ImageSource},
        test_items::as_data,
    },
    loaders::DataLoaders,
    loading::loader::{Data, DataLoader, Images},
};
use crate::{
    error::{Error, Result},
    image::Decode,
    sample::{Split, Target},
};
use std::sync::Arc;

impl DataLoaders {
    /// Returns a loader of images to predict, prepared as in validation, in the given order. Each image is
    /// a path, the bytes of a file or an [`Image`](crate::image::Image). The batches have no targets.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no images, [`Error::Unsupported`] if the data of these loaders are arrays.
    ///
    /// ```no_run
    /// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
    /// let new = dls.test_dl(["a.jpg", "b.jpg"])?;
    /// assert!(new.one_batch()?.y.is_none());
    /// # Ok(()) }
    /// ```
    pub fn test_dl<X: Into<ImageSource>>(
        &self,
        images: impl IntoIterator<Item = X>,
    ) -> Result<DataLoader> {
        let items: Vec<ImageSource> = images.into_iter().map(Into::into).collect();
        let targets = Targets::Made(vec![Target::None; items.len()]);
        let input = self.input();
        let get_x: Get<ImageSource, _> = Arc::new(|source: &ImageSource| Ok(source.clone()));
        self.test(as_data(Items { input, items, get_x, targets, task: self.task() }))
    }

    /// Returns a loader of items outside the data set, of the type that `get_items` returns, with their
    /// targets from `get_y`: for a test set with known labels.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no items, they have another type, or these loaders were not created
    /// by a [`DataBlock`](super::DataBlock), as is the case for arrays; [`Error::Label`] for an item with an
    /// unknown label.
    pub fn test_dl_labeled<I: 'static>(&self, items: Vec<I>) -> Result<DataLoader> {
        let why = "these loaders were not created by a `DataBlock` and have no `get_y`";
        let made = self.test_items.as_ref().ok_or_else(|| Error::config("test_dl", why))?;
        self.test(made.items(Box::new(items), true, self.task())?)
    }

    /// Returns the decoding options, for an exported model: those of the block, otherwise color images.
    #[must_use]
    pub fn decode_options(&self) -> Decode {
        self.input().decode_options()
    }

    fn input(&self) -> ImageBlock {
        self.test_items.as_ref().map_or_else(ImageBlock::rgb, |made| made.input())
    }

    /// Returns a loader of `data` with the transforms and settings of validation.
    fn test(&self, data: Data) -> Result<DataLoader> {
        let (Data::Images(new), Data::Images(own)) = (data, self.valid().data()) else {
            return Err(Error::unsupported("test_dl", "the data are arrays, not images"));
        };
        if new.dataset.is_empty() {
            return Err(Error::config("test_dl", "there are no items"));
        }
        let items = (0..new.dataset.len()).collect();
        let images = Images {
            presized: None,
            item_tfms: own.item_tfms.clone(),
            batch_tfms: own.batch_tfms.clone(),
            ..new
        };
        let mut settings = self.valid().settings().clone();
        (settings.split, settings.shuffle) = (Split::Valid, false);
        DataLoader::new(Data::Images(images), items, settings, Some(self.valid().pool().clone()))
    }
}

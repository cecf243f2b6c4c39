//! Loaders of items from outside the data set.

use super::{
    labeled::{Get, Items, encode, label_of, name_of},
    source::{ImageBlock, ImageSource},
};
use crate::{
    data::{
        loaders::DataLoaders,
        loading::loader::{Data, DataLoader, Images},
        target::category::TargetBlock,
    },
    error::{Error, Result},
    image::Decode,
    sample::{Split, Target, Task},
};
use std::{
    any::{Any, type_name},
    sync::Arc,
};

/// What a [`DataBlock`](crate::data::DataBlock) leaves behind for later items: its input, and its way from
/// an item to a target, without its types.
pub(in crate::data) trait TestItems: Send + Sync + std::fmt::Debug {
    /// How images are read.
    fn input(&self) -> ImageBlock;

    /// The data set of a boxed `Vec<I>`, with targets if wanted.
    fn items(&self, items: Box<dyn Any>, labelled: bool, task: Task) -> Result<Data>;
}

/// The same with its types.
pub(in crate::data) struct Pipeline<Y: TargetBlock, I> {
    pub(in crate::data) input: ImageBlock,
    pub(in crate::data) get_x: Get<I, ImageSource>,
    pub(in crate::data) get_y: Get<I, Y::Label>,
    /// Set up on the training labels.
    pub(in crate::data) target: Y,
}

impl<Y: TargetBlock, I> std::fmt::Debug for Pipeline<Y, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipeline({:?})", self.input)
    }
}

impl<Y: TargetBlock, I: Send + Sync + 'static> TestItems for Pipeline<Y, I> {
    fn input(&self) -> ImageBlock {
        self.input
    }

    fn items(&self, items: Box<dyn Any>, labelled: bool, task: Task) -> Result<Data> {
        let items = *items.downcast::<Vec<I>>().map_err(|_| {
            let why = format!("the items of this data block are `{}`", type_name::<I>());
            Error::config("test_dl", why)
        })?;
        let target = |i: usize| {
            let label = label_of(&items, &self.get_x, &self.get_y, i)?;
            encode(&self.target, &label, || name_of(&items, &self.get_x, i))
        };
        let targets = match labelled {
            true => (0..items.len()).map(target).collect::<Result<_>>()?,
            false => vec![Target::None; items.len()],
        };
        let (input, get_x) = (self.input, self.get_x.clone());
        Ok(images(Items { input, items, get_x, targets, task }))
    }
}

fn images<I: Send + Sync + 'static>(items: Items<I>) -> Data {
    Data::Images(Images {
        dataset: Arc::new(items),
        item_tfms: Arc::new([]),
        batch_tfms: Arc::new([]),
        skipped: Arc::default(),
        presized: None,
    })
}

impl DataLoaders {
    /// Images that are to be predicted, prepared as for validation, in the given order. Each is a
    /// path, the bytes of a file or an [`Image`](crate::image::Image). Their batches have no targets.
    ///
    /// # Errors
    /// [`Error::Config`] if there are none, or these loaders are of arrays.
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
        let targets = vec![Target::None; items.len()];
        let input = self.input();
        let get_x: Get<ImageSource, _> = Arc::new(|source: &ImageSource| Ok(source.clone()));
        self.test(self::images(Items { input, items, get_x, targets, task: self.task() }))
    }

    /// Items that are not in the data set, of the type that `get_items` returns, with their targets by
    /// `get_y`: for a test set whose labels are known.
    ///
    /// # Errors
    /// [`Error::Config`] if there are none, they are of another type, or these loaders are not those
    /// of a [`DataBlock`](crate::data::DataBlock); [`Error::Label`] for an item whose label is not known.
    pub fn test_dl_labelled<I: 'static>(&self, items: Vec<I>) -> Result<DataLoader> {
        let why = "these loaders are not of a `DataBlock` and know no `get_y`";
        let made = self.test_items.as_ref().ok_or_else(|| Error::config("test_dl", why))?;
        self.test(made.items(Box::new(items), true, self.task())?)
    }

    /// How files become images, for an exported model: what a block said, else color images.
    #[must_use]
    pub fn decode_options(&self) -> Decode {
        self.input().decode_options()
    }

    fn input(&self) -> ImageBlock {
        self.test_items.as_ref().map_or_else(ImageBlock::rgb, |made| made.input())
    }

    /// A loader of `data` with the transforms and settings of validation.
    fn test(&self, data: Data) -> Result<DataLoader> {
        let (Data::Images(new), Data::Images(own)) = (data, self.valid().data()) else {
            return Err(Error::unsupported(
                "test_dl",
                "these loaders are of arrays, not of images",
            ));
        };
        if new.dataset.is_empty() {
            return Err(Error::config("test_dl", "there are no items"));
        }
        let items = (0..new.dataset.len()).collect();
        let images = Images { dataset: new.dataset, presized: None, ..own.clone() };
        let mut settings = self.valid().settings().clone();
        (settings.split, settings.shuffle) = (Split::Valid, false);
        DataLoader::new(Data::Images(images), items, settings, Some(self.valid().pool().clone()))
    }
}

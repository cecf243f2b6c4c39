//! Fills the cache before the first epoch.

use super::{presized::Presized, store::CacheStatus};
use crate::{
    data::{
        Cache, DataLoader, DataLoaders,
        caught::{caught, position},
        loading::{
            loader::Data,
            skip::{OnError, Skipped},
        },
    },
    error::{Error, Result},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

impl DataLoaders {
    /// Returns loaders of the same data that cache decoded images; see [`Cache`].
    ///
    /// # Errors
    /// [`Error::Config`] if the data are arrays, which need no decoding, and [`Error::Io`] if the folder of
    /// the cache file does not exist.
    pub fn cached(&self, cache: &Cache) -> Result<Self> {
        self.with_store(&cache.open()?)
    }

    /// Returns the state of the cache, if there is one.
    #[must_use]
    pub fn cache_status(&self) -> Option<CacheStatus> {
        self.train().presized().map(Presized::status)
    }

    /// Adds all training and validation images to the [`Cache`](crate::data::Cache) of these loaders, on
    /// their threads, with a progress bar on standard error if it is a terminal. The first epoch is then as
    /// fast as later ones; otherwise, the first epoch fills the cache. Cached images are not loaded again.
    /// Stops when the cache is full.
    ///
    /// ```no_run
    /// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
    /// use finetune::data::Cache;
    ///
    /// let dls = dls.cached(&Cache::file("photos.cache", 20 << 30))?;
    /// let status = dls.fill_cache()?;
    /// println!("{} images, {} bytes", status.images, status.bytes);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if there is no cache, and errors of images, unless they are
    /// [skipped](crate::data::OnError::Skip).
    pub fn fill_cache(&self) -> Result<CacheStatus> {
        let none = || Error::config("fill_cache", "there is no cache: add one with `cached`");
        self.cache_status().ok_or_else(none)?;
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let style = "cache {wide_bar} {pos}/{len} {per_sec} [{elapsed}<{eta}]";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        let all = (self.train().len() + self.valid().len()) as u64;
        let bar = ProgressBar::with_draw_target(Some(all), target).with_style(style);
        let filled = [self.train(), self.valid()].into_iter().try_for_each(|side| fill(side, &bar));
        bar.finish_and_clear();
        // Images loaded before a failure are kept.
        self.train().presized().into_iter().for_each(|cache| cache.settle());
        filled?;
        self.cache_status().ok_or_else(none)
    }
}

/// Adds the images of one split to the cache.
fn fill(side: &DataLoader, bar: &ProgressBar) -> Result<()> {
    let (Data::Images(images), Some(cache)) = (side.data(), side.presized()) else {
        return Ok(());
    };
    let one = |&item: &usize| {
        if cache.status().full {
            return Ok(());
        }
        bar.inc(1);
        let get = || cache.get(&*images.dataset, item, side.split());
        match caught(get, || side.name(item), || position(item)) {
            Err(e) if side.settings().on_error == OnError::Skip && Skipped::may(&e) => {
                images.skipped.add(item, || side.name(item), &e);
                Ok(())
            }
            other => other.map(drop),
        }
    };
    match side.pool().threads()? {
        Some(pool) => pool.install(|| side.items().par_iter().try_for_each(one)),
        None => side.items().iter().try_for_each(one),
    }
}

//! The options of loaders.

use super::skip::OnError;
use crate::{sample::Split, seed::Seed};
use std::thread;
use tch::Device;

/// The settings of one loader.
#[derive(Debug, Clone)]
pub(in crate::data) struct Settings {
    pub(in crate::data) bs: usize,
    pub(in crate::data) shuffle: bool,
    pub(in crate::data) drop_last: Option<bool>,
    pub(in crate::data) workers: usize,
    pub(in crate::data) device: Device,
    pub(in crate::data) seed: Seed,
    pub(in crate::data) split: Split,
    pub(in crate::data) on_error: OnError,
}

impl Settings {
    /// Returns the defaults for training or for validation.
    pub(in crate::data) fn new(split: Split, device: Device) -> Self {
        Self {
            bs: 64,
            shuffle: split == Split::Train,
            drop_last: None,
            workers: default_workers(),
            device,
            seed: Seed(42),
            split,
            on_error: OnError::Fail,
        }
    }

    pub(in crate::data) fn drop_last(&self) -> bool {
        self.drop_last.unwrap_or(self.shuffle)
    }
}

/// Returns the number of processors, at most 16, as in fastai.
pub(in crate::data) fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(16)
}

/// Settings to change of a [`DataLoader`](crate::data::DataLoader) or of both
/// [`DataLoaders`](crate::data::DataLoaders). Settings that are not set are unchanged.
#[derive(Debug, Clone, Default)]
pub struct LoaderOptions {
    pub(in crate::data) bs: Option<usize>,
    pub(in crate::data) val_bs: Option<usize>,
    pub(in crate::data) shuffle: Option<bool>,
    pub(in crate::data) drop_last: Option<bool>,
    num_workers: Option<usize>,
    device: Option<Device>,
    seed: Option<u64>,
    pub(in crate::data) split: Option<Split>,
    on_error: Option<OnError>,
}

impl LoaderOptions {
    /// Returns options that change nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of items in a batch. Default: 64.
    #[must_use]
    pub fn bs(mut self, bs: usize) -> Self {
        self.bs = Some(bs);
        self
    }

    /// Sets the number of items in a validation batch. Default: that of training.
    #[must_use]
    pub fn val_bs(mut self, val_bs: usize) -> Self {
        self.val_bs = Some(val_bs);
        self
    }

    /// If true, each pass has its own random order. If false, all items are used in order, even those of a loader
    /// that draws by weight. Default: true in training.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = Some(shuffle);
        self
    }

    /// If true, the last batch is dropped if it is not full. Default: same as `shuffle`.
    #[must_use]
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = Some(drop_last);
        self
    }

    /// Sets the number of loading threads; 0 loads on the calling thread. The batches do not depend on it.
    /// Default: one per processor, at most 16.
    #[must_use]
    pub fn num_workers(mut self, num_workers: usize) -> Self {
        self.num_workers = Some(num_workers);
        self
    }

    /// Sets the device of the batches. Default: the first CUDA device, otherwise the CPU.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets the seed of shuffling and transforms. Default: 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets whether to apply the transforms of training or of validation. Default: the loader's own split.
    #[must_use]
    pub fn split(mut self, split: Split) -> Self {
        self.split = Some(split);
        self
    }

    /// Sets the handling of items that cannot be loaded. Default: [`OnError::Fail`].
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = Some(on_error);
        self
    }

    /// Returns the device that is set, otherwise `default`.
    pub(in crate::data) fn device_or(&self, default: impl FnOnce() -> Device) -> Device {
        self.device.unwrap_or_else(default)
    }

    /// Returns the options that apply to the validation loader.
    pub(in crate::data) fn for_valid(&self) -> Self {
        let bs = self.val_bs.or(self.bs);
        Self { bs, shuffle: None, drop_last: None, split: None, ..self.clone() }
    }

    pub(in crate::data) fn apply(self, to: &mut Settings) {
        to.bs = self.bs.unwrap_or(to.bs);
        to.shuffle = self.shuffle.unwrap_or(to.shuffle);
        to.drop_last = self.drop_last.or(to.drop_last);
        to.workers = self.num_workers.unwrap_or(to.workers);
        to.device = self.device.unwrap_or(to.device);
        to.seed = self.seed.map_or(to.seed, Seed);
        to.split = self.split.unwrap_or(to.split);
        to.on_error = self.on_error.unwrap_or(to.on_error);
    }
}

//! The options of loaders.

use super::skip::OnError;
use crate::{sample::Split, seed::Seed};
use std::thread;
use tch::Device;

/// What is set for one loader.
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
    /// For training or validation.
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

/// One for each processor, 16 at most, as fastai has it.
pub(in crate::data) fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(16)
}

/// Settings to change of a [`DataLoader`](crate::data::DataLoader) or of both
/// [`DataLoaders`](crate::data::DataLoaders). Settings that are not named are unchanged.
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
    /// Changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of items in a batch. Default: 64.
    #[must_use]
    pub fn bs(mut self, bs: usize) -> Self {
        self.bs = Some(bs);
        self
    }

    /// The number of items in a batch of validation. Default: that of training.
    #[must_use]
    pub fn val_bs(mut self, val_bs: usize) -> Self {
        self.val_bs = Some(val_bs);
        self
    }

    /// If true, each pass has its own random order. Default: true in training.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = Some(shuffle);
        self
    }

    /// If true, drops the last batch if it is not full. Default: as `shuffle`.
    #[must_use]
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = Some(drop_last);
        self
    }

    /// The number of loading threads; 0 loads on the calling thread. The batches do not depend on
    /// it. Default: one per processor, at most 16.
    #[must_use]
    pub fn num_workers(mut self, num_workers: usize) -> Self {
        self.num_workers = Some(num_workers);
        self
    }

    /// The device of the batches. Default: the first CUDA device, otherwise the CPU.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The seed of shuffling and transforms. Default: 42.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Which transforms to apply, training's or validation's. Default: the loader's own split.
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

    /// The device that is named, else `default`.
    pub(in crate::data) fn device_or(&self, default: impl FnOnce() -> Device) -> Device {
        self.device.unwrap_or_else(default)
    }

    /// What of this concerns the validation side of two.
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

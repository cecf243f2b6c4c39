//! Loads batches: the order of an epoch, the workers, and copies to the device.

pub(in crate::data) mod arrays;
pub(in crate::data) mod batch;
pub(in crate::data) mod buffers;
pub(in crate::data) mod device;
pub(in crate::data) mod loader;
pub(in crate::data) mod options;
pub(in crate::data) mod order;
pub(in crate::data) mod pass;
pub(in crate::data) mod pool;
pub(in crate::data) mod prefetch;
pub(in crate::data) mod share;
pub(in crate::data) mod skip;
pub(in crate::data) mod targets;
pub(in crate::data) mod weighted;

pub(crate) use share::{BatchPart, Share};

pub use {
    arrays::Arrays,
    loader::{Batches, DataLoader},
    options::LoaderOptions,
    skip::{OnError, SkippedItem},
};

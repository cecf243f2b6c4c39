//! The cache of presized images.

pub(in crate::data) mod file;
pub(in crate::data) mod fill;
pub(in crate::data) mod memory;
pub(in crate::data) mod presized;
pub(in crate::data) mod store;

pub use {presized::Cache, store::CacheStatus};

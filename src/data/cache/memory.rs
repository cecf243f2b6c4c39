//! Presized images in memory.

use super::store::{CacheStatus, Key, Store, Version};
use crate::image::Image;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// The overhead per image in bytes, rounded up.
const EACH: u64 = 128;

/// Images in memory, up to a size limit.
pub(in crate::data) struct MemoryStore {
    limit: u64,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    images: HashMap<u128, (Version, Arc<Image>)>,
    bytes: u64,
    full: bool,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl MemoryStore {
    pub(in crate::data) fn new(limit: u64) -> Self {
        Self { limit, kept: RwLock::default() }
    }
}

fn cost(image: &Image) -> u64 {
    image.pixels().len() as u64 + EACH
}

impl Store for MemoryStore {
    fn get(&self, key: &Key) -> Option<Image> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (version, image) = kept.images.get(&key.id)?;
        let image = (*version == key.version).then(|| image.clone())?;
        drop(kept);
        Some((*image).clone())
    }

    fn put(&self, key: &Key, image: &Image) {
        let cost_of_new = cost(image);
        let room = |kept: &Kept| {
            let old = kept.images.get(&key.id).map_or(0, |(_, old)| cost(old));
            (kept.bytes - old + cost_of_new <= self.limit).then_some(old)
        };
        if room(&self.kept.read().unwrap_or_else(PoisonError::into_inner)).is_some() {
            let image = Arc::new(image.clone());
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            // Other threads may have used the room in the meantime.
            if let Some(old) = room(&kept) {
                kept.bytes = kept.bytes - old + cost_of_new;
                kept.images.insert(key.id, (key.version, image));
                return;
            }
        }
        self.kept.write().unwrap_or_else(PoisonError::into_inner).full = true;
    }

    fn status(&self) -> CacheStatus {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (images, bytes, full) = (kept.images.len(), kept.bytes, kept.full);
        CacheStatus { images, bytes, full, error: None }
    }
}

//! A pool of batch buffers.

use std::sync::{Mutex, PoisonError};

/// The number of buffers of each kind that are kept: the number of batches in flight.
const KEPT: usize = 2;

/// Reuses the memory of batches. The system clears new memory page by page, which costs about as much as
/// filling it.
#[derive(Debug, Default)]
pub(in crate::data) struct Buffers {
    bytes: Mutex<Vec<Vec<u8>>>,
    floats: Mutex<Vec<Vec<f32>>>,
}

impl Buffers {
    /// Returns `n` bytes with arbitrary content.
    pub(in crate::data) fn bytes(&self, n: usize) -> Vec<u8> {
        take(&self.bytes, n)
    }

    /// Returns `n` floats with arbitrary content.
    pub(in crate::data) fn floats(&self, n: usize) -> Vec<f32> {
        take(&self.floats, n)
    }

    /// Returns a buffer to the pool.
    pub(in crate::data) fn give_bytes(&self, used: Vec<u8>) {
        give(&self.bytes, used);
    }

    /// Returns a buffer to the pool.
    pub(in crate::data) fn give_floats(&self, used: Vec<f32>) {
        give(&self.floats, used);
    }
}

fn take<T: Clone + Default>(kept: &Mutex<Vec<Vec<T>>>, n: usize) -> Vec<T> {
    let used = kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
    match used {
        Some(mut used) if used.capacity() >= n => {
            used.resize(n, T::default());
            used
        }
        _ => vec![T::default(); n],
    }
}

fn give<T>(kept: &Mutex<Vec<Vec<T>>>, used: Vec<T>) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT {
        kept.push(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_where_it_is_enough() {
        let buffers = Buffers::default();
        let first = buffers.floats(10);
        let place = first.as_ptr();
        buffers.give_floats(first);
        let second = buffers.floats(8);
        assert_eq!((second.as_ptr(), second.len()), (place, 8));
        buffers.give_floats(second);
        assert_eq!(buffers.floats(100), [0.0; 100]);
        for _ in 0..5 {
            buffers.give_bytes(vec![1]);
        }
        assert_eq!(buffers.bytes.lock().unwrap().len(), KEPT);
    }
}

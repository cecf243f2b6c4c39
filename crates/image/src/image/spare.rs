//! Reuse of pixel buffers within a thread.
//!
//! A loading thread allocates and frees a few images of a few hundred kilobytes per item. The system
//! provides fresh memory of that size page by page, which takes about as long as the resizing.

use std::cell::RefCell;

/// The number of buffers that a thread keeps: the images between a file and its place in a batch.
const KEPT: usize = 4;
/// The largest capacity of a buffer that is kept, in bytes.
const LARGEST: usize = 8 << 20;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns `n` bytes with arbitrary values.
pub(super) fn take(n: usize) -> Vec<u8> {
    let fitting = |spare: &RefCell<Vec<Vec<u8>>>| {
        let mut spare = spare.borrow_mut();
        let best = (0..spare.len()).filter(|&k| spare[k].capacity() >= n);
        best.min_by_key(|&k| spare[k].capacity()).map(|k| spare.swap_remove(k))
    };
    // The buffers are not accessible while the thread ends.
    match SPARE.try_with(fitting).ok().flatten() {
        Some(mut used) => {
            used.resize(n, 0);
            used
        }
        None => vec![0; n],
    }
}

/// Keeps a buffer for reuse.
pub(super) fn give(used: Vec<u8>) {
    if (1..=LARGEST).contains(&used.capacity()) {
        // If the thread is ending, the buffer is freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() == KEPT {
                spare.remove(0);
            }
            spare.push(used);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_buffer_is_reused() {
        let (small, large) = (vec![1; 10], vec![1; 100]);
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        give(large);
        give(small);
        let found = take(8);
        assert_eq!((found.as_ptr(), found.len()), (at_small, 8));
        let found = take(60);
        assert_eq!((found.as_ptr(), found.len()), (at_large, 60));
        assert_eq!(take(5), [0; 5]);
    }

    #[test]
    fn only_a_few_buffers_of_moderate_size_are_kept() {
        give(Vec::with_capacity(LARGEST + 1));
        for _ in 0..KEPT + 3 {
            give(vec![1; 10]);
        }
        SPARE.with(|spare| {
            assert!(spare.borrow().iter().all(|v| v.capacity() == 10));
            assert_eq!(spare.borrow().len(), KEPT);
        });
    }
}

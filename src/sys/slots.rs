//! A buffer divided into equal parts, each of which one thread fills once.

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    sync::atomic::{AtomicBool, Ordering},
};

/// A vector divided into equal parts, which threads fill in parallel without locks.
pub(crate) struct Slots<T> {
    start: *mut T,
    len: usize,
    capacity: usize,
    each: usize,
    taken: Box<[AtomicBool]>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its elements like a vector, and `taken` ensures that it lends each part mutably at most once.
// Sharing it is therefore equivalent to sending its parts.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    /// Divides `data` into parts of `each` elements. Remaining elements at the end are in no part.
    pub(crate) fn new(data: Vec<T>, each: usize) -> Self {
        let n = data.len() / each.max(1);
        let mut data = ManuallyDrop::new(data);
        Self {
            start: data.as_mut_ptr(),
            len: data.len(),
            capacity: data.capacity(),
            each,
            taken: (0..n).map(|_| AtomicBool::new(false)).collect(),
            owns: PhantomData,
        }
    }

    /// Calls `fill` with part `k`. Returns `None` if the part does not exist or was filled before.
    pub(crate) fn fill<R>(&self, k: usize, fill: impl FnOnce(&mut [T]) -> R) -> Option<R> {
        if self.taken.get(k)?.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: part `k` is within the vector, since there are `len / each` parts. No other reference to it
        // exists or will exist, since the flag was not set before and is never cleared. The vector lives as
        // long as `self`.
        let part =
            unsafe { std::slice::from_raw_parts_mut(self.start.add(k * self.each), self.each) };
        Some(fill(part))
    }

    /// Returns the vector.
    pub(crate) fn into_vec(self) -> Vec<T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the flags are read once, and not dropped a second time, since `this` is never dropped.
        drop(unsafe { std::ptr::read(&raw const this.taken) });
        // SAFETY: these are the fields of the vector that `new` decomposed. `self` is taken by value, so no
        // part is borrowed.
        unsafe { Vec::from_raw_parts(this.start, this.len, this.capacity) }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        // SAFETY: these are the fields of the vector that `new` decomposed. `into_vec` has not rebuilt it, since
        // it does not drop `self`.
        drop(unsafe { Vec::from_raw_parts(self.start, self.len, self.capacity) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_filled_once() {
        let slots = Slots::new(vec![0u32; 12], 4);
        std::thread::scope(|scope| {
            for k in 0..3 {
                let slots = &slots;
                scope.spawn(move || slots.fill(k, |part| part.fill(k as u32 + 1)).unwrap());
            }
        });
        assert!(slots.fill(1, |_| ()).is_none(), "given out before");
        assert!(slots.fill(3, |_| ()).is_none(), "not there");
        assert_eq!(slots.into_vec(), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    }

    #[test]
    fn what_is_not_taken_out_is_dropped() {
        let text = std::sync::Arc::new(());
        drop(Slots::new(vec![text.clone(); 3], 1));
        let out = Slots::new(vec![text.clone(); 3], 1).into_vec();
        assert_eq!(std::sync::Arc::strong_count(&text), 4);
        drop(out);
        assert_eq!(std::sync::Arc::strong_count(&text), 1);
        assert_eq!(Slots::new(vec![1; 3], 0).into_vec(), [1, 1, 1]);
    }
}

//! A buffer in equal parts that many threads fill, each part once.

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    sync::atomic::{AtomicBool, Ordering},
};

/// A vector in equal parts, which threads fill side by side without locks.
pub(crate) struct Slots<T> {
    start: *mut T,
    len: usize,
    capacity: usize,
    each: usize,
    taken: Box<[AtomicBool]>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its elements as a vector does, and gives each out mutably once at most, which
// `taken` sees to; so sharing it is like sending parts of it.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    /// `data` in parts of `each`; what is left over at the end stays as it is.
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

    /// Lets `fill` write part `k`. `None` if there is no such part or it was given out before.
    pub(crate) fn fill<R>(&self, k: usize, fill: impl FnOnce(&mut [T]) -> R) -> Option<R> {
        if self.taken.get(k)?.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: part `k` lies within the vector, as there are `len / each` parts; nobody else has it
        // or will have it, as the flag was not set before and is never cleared; and the vector lives
        // as long as `self`.
        let part =
            unsafe { std::slice::from_raw_parts_mut(self.start.add(k * self.each), self.each) };
        Some(fill(part))
    }

    /// The whole vector, when all are done.
    pub(crate) fn into_vec(self) -> Vec<T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the flags are read once, and not dropped again, as `this` is not.
        drop(unsafe { std::ptr::read(&raw const this.taken) });
        // SAFETY: these are the parts of the vector that `new` took apart; by value, no part is out.
        unsafe { Vec::from_raw_parts(this.start, this.len, this.capacity) }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        // SAFETY: these are the parts of the vector that `new` took apart, which `into_vec` has not
        // put together again, or this would not run.
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

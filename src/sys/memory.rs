//! Reuse of the memory of large tensors.

unsafe extern "C" {
    fn finetune_memory_hold() -> bool;
    fn finetune_memory_release();
    #[cfg(test)]
    fn finetune_memory_bytes(all: *mut usize, spare: *mut usize);
}

/// Keeps the memory of large CPU tensors for later tensors, as long as a value of this type exists. Otherwise
/// the memory is returned to the operating system, which clears it page by page before it provides it again.
///
/// Unused regions are returned if all regions together would exceed the maximum memory in use so far, and when
/// the last value is dropped. All tensors of the process are affected; tensors that outlive the value remain
/// valid.
///
/// If the environment variable `FINETUNE_KEEP_MEMORY` is `0` when the program starts, no memory is kept, and
/// libtorch's own allocator is not replaced.
#[derive(Debug)]
#[must_use = "memory is kept until this value is dropped"]
pub(crate) struct KeptMemory {
    holds: bool,
}

impl KeptMemory {
    pub(crate) fn hold() -> Self {
        // SAFETY: the call has no arguments, and a lock guards the state that it changes.
        Self { holds: unsafe { finetune_memory_hold() } }
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        if self.holds {
            // SAFETY: as above, and each successful hold is released once.
            unsafe { finetune_memory_release() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, process::Command, thread};
    use tch::{Kind, Tensor};

    const MB: usize = 1 << 20;

    /// Returns the number of bytes kept, and the number of those that are unused.
    fn bytes() -> (usize, usize) {
        let (mut all, mut spare) = (0, 0);
        // SAFETY: both pointers are valid for one write.
        unsafe { finetune_memory_bytes(&raw mut all, &raw mut spare) };
        (all, spare)
    }

    /// Returns a tensor of `bytes` bytes, each of which is `value`.
    fn tensor(bytes: usize, value: i64) -> Tensor {
        Tensor::full([bytes as i64], value, (Kind::Uint8, tch::Device::Cpu))
    }

    fn is_all(t: &Tensor, value: i64) -> bool {
        t.eq(value).all().int64_value(&[]) == 1
    }

    /// Runs a test in a separate process, since other tests hold memory too.
    fn run_alone(test: &str, keep: &str) {
        let test = format!("sys::memory::tests::{test}");
        let done = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--show-output", &test])
            .env("FINETUNE_KEEP_MEMORY", keep)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn memory_is_kept_used_again_and_returned() {
        run_alone("alone", "1");
    }

    #[test]
    fn nothing_is_kept_where_the_environment_says_so() {
        run_alone("switched_off", "0");
    }

    #[test]
    #[ignore = "run by another test, in a separate process"]
    fn switched_off() {
        let _hold = KeptMemory::hold();
        drop(tensor(4 * MB, 1));
        assert_eq!(bytes(), (0, 0));
    }

    #[test]
    fn spare_memory_is_returned_where_there_is_not_enough() {
        run_alone("too_large", "1");
    }

    #[test]
    #[ignore = "run by another test, in a separate process"]
    fn too_large() {
        let _hold = KeptMemory::hold();
        drop(tensor(4 * MB, 1));
        assert_eq!(bytes(), (4 * MB, 4 * MB));
        for size in [1 << 50, i64::MAX] {
            let none = Tensor::f_empty([size], (Kind::Uint8, tch::Device::Cpu));
            assert!(none.is_err(), "no machine has {size} bytes");
            assert_eq!(bytes(), (0, 0));
        }
        assert!(is_all(&tensor(4 * MB, 2), 2), "the next one has its memory");
    }

    #[test]
    #[ignore = "run by another test, in a separate process"]
    fn alone() {
        let before = tensor(4 * MB, 9);
        assert_eq!(bytes(), (0, 0));
        {
            let _hold = KeptMemory::hold();
            let first = tensor(4 * MB, 1);
            let place = first.data_ptr();
            assert_eq!(bytes(), (4 * MB, 0));
            drop(first);
            assert_eq!(bytes(), (4 * MB, 4 * MB));
            drop(before);
            assert_eq!(bytes(), (4 * MB, 4 * MB), "what is not from here is not kept");

            // Smaller tensors share the region, which is merged again when they are dropped.
            let (a, b) = (tensor(3 * MB, 2), tensor(MB / 2, 3));
            assert_eq!((a.data_ptr(), bytes()), (place, (4 * MB, MB / 2)));
            assert!(is_all(&a, 2) && is_all(&b, 3));
            drop(a);
            drop(b);
            let whole = tensor(4 * MB, 4);
            assert_eq!(whole.data_ptr(), place);
            drop(whole);

            // The kept memory never exceeds the maximum in use.
            let two = (tensor(8 * MB, 5), tensor(8 * MB, 6));
            drop(two);
            let large = tensor(12 * MB, 7);
            assert_eq!(bytes(), (12 * MB, 0));
            drop(large);
            let small = tensor(1000, 8);
            assert_eq!(bytes(), (12 * MB, 12 * MB), "small ones are not from here");
            drop(small);
        }
        assert_eq!(bytes(), (0, 0));

        // A tensor that outlives the holds keeps its values, and its memory is returned when it is dropped.
        let hold = (KeptMemory::hold(), KeptMemory::hold());
        drop(tensor(4 * MB, 1));
        let outlives = tensor(MB, 7);
        drop(hold.0);
        assert_eq!(bytes(), (4 * MB, 3 * MB), "the other one still holds");
        drop(hold.1);
        let others = tensor(2 * MB, 1);
        assert!(is_all(&outlives, 7) && bytes() == (4 * MB, 3 * MB));
        drop(outlives);
        assert_eq!(bytes(), (0, 0));
        drop(others);

        // Tensors of several threads never share memory.
        {
            let _hold = KeptMemory::hold();
            let work = |k: i64| {
                let mut kept: Vec<(Tensor, i64)> = vec![];
                for i in 0..300_i64 {
                    let (size, value) = ((i * 7919 + k * 104_729) % 40 + 1, (i * 4 + k) % 256);
                    kept.push((tensor(size as usize * MB / 16, value), value));
                    if kept.len() > 8 {
                        let (t, value) = kept.swap_remove((i * 31 % 9) as usize);
                        assert!(is_all(&t, value));
                    }
                }
                assert!(kept.iter().all(|(t, value)| is_all(t, *value)));
            };
            thread::scope(|s| (0..4).for_each(|k| drop(s.spawn(move || work(k)))));
        }
        assert_eq!(bytes(), (0, 0));
    }
}

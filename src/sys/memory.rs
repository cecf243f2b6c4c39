//! Memory of tensors that is used again.

unsafe extern "C" {
    fn finetune_memory_hold() -> bool;
    fn finetune_memory_release();
    #[cfg(test)]
    fn finetune_memory_bytes(all: *mut usize, spare: *mut usize);
}

/// While one of these lives, the memory of large tensors on the CPU is kept for the next ones instead of
/// being returned to the system, which would clear it page by page before it gives it out again. Regions
/// that nobody uses are returned where all together would be larger than what was in use at once, and all
/// of them at the end. It concerns all tensors of the process; those that outlive it are not touched.
///
/// A program that is started with `FINETUNE_KEEP_MEMORY=0` in its environment keeps nothing, and libtorch's
/// own allocator stays in place.
#[derive(Debug)]
#[must_use = "memory is kept as long as this value lives"]
pub(crate) struct KeptMemory {
    holds: bool,
}

impl KeptMemory {
    pub(crate) fn hold() -> Self {
        // SAFETY: a call without arguments; what it does is guarded by a lock.
        Self { holds: unsafe { finetune_memory_hold() } }
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        if self.holds {
            // SAFETY: as above, and each hold is released once.
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

    /// The bytes kept in all, and those of them that are spare.
    fn bytes() -> (usize, usize) {
        let (mut all, mut spare) = (0, 0);
        // SAFETY: both are alive, and written once.
        unsafe { finetune_memory_bytes(&raw mut all, &raw mut spare) };
        (all, spare)
    }

    /// A tensor of so many bytes, each of which is `value`.
    fn tensor(bytes: usize, value: i64) -> Tensor {
        Tensor::full([bytes as i64], value, (Kind::Uint8, tch::Device::Cpu))
    }

    fn is_all(t: &Tensor, value: i64) -> bool {
        t.eq(value).all().int64_value(&[]) == 1
    }

    /// Runs a test in a process of its own, since other tests hold memory too.
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
    #[ignore = "run by the test above, in a process of its own"]
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
    #[ignore = "run by the test above, in a process of its own"]
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
    #[ignore = "run by the test above, in a process of its own"]
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

            // Smaller ones share it, and make one again.
            let (a, b) = (tensor(3 * MB, 2), tensor(MB / 2, 3));
            assert_eq!((a.data_ptr(), bytes()), (place, (4 * MB, MB / 2)));
            assert!(is_all(&a, 2) && is_all(&b, 3));
            drop(a);
            drop(b);
            let whole = tensor(4 * MB, 4);
            assert_eq!(whole.data_ptr(), place);
            drop(whole);

            // Never more than was used at once.
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

        // What outlives it keeps its numbers, and returns its memory at its end.
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

        // Side by side, no two have the same memory.
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

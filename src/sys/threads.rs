//! libtorch's compute threads on a machine with other programs.

use super::message::checked;
use std::{
    env,
    ffi::{c_char, c_int},
    sync::Once,
    thread,
};

unsafe extern "C" {
    fn finetune_default_threads(threads: *mut c_int) -> *mut c_char;
}

/// Sets, once per process, how libtorch's threads share the processors with other programs.
///
/// - The number of threads is at most the number of available processors, including quotas of control groups, which
///   libtorch and OpenMP ignore. A number set by `OMP_NUM_THREADS`, `MKL_NUM_THREADS` or a call is kept.
/// - Threads that wait for the next operation sleep. By default, GNU's OpenMP lets them spin for milliseconds, which
///   takes time from other programs and from the threads for which they wait. It does not spin if there are more
///   threads than processors, so this function starts a team of idle threads. `OMP_WAIT_POLICY` and
///   `GOMP_SPINCOUNT` are respected.
pub(crate) fn share_processors() {
    static SETTLED: Once = Once::new();
    SETTLED.call_once(|| {
        let is_set = |names: &[&str]| names.iter().any(|name| env::var_os(name).is_some());
        let Some(openmp) = OpenMp::find() else { return };
        let processors = openmp.processors();
        let mut threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        let available = thread::available_parallelism().map_or(processors, Into::into);
        let fitting = within(available, threads, &[processors, default_threads(processors)]);
        if fitting != threads && !is_set(&["OMP_NUM_THREADS", "MKL_NUM_THREADS"]) {
            tch::set_num_threads(i32::try_from(fitting).unwrap_or(1));
            threads = fitting;
        }
        // A single thread waits for no other.
        if threads > 1 && !is_set(&["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]) {
            // OpenMP counts the threads of all teams. With two threads more than `processors - threads`, the idle
            // team raises that count above the number of processors.
            openmp.start_idle_team(processors.saturating_sub(threads) + 2);
        }
    });
}

/// Returns libtorch's default number of threads: the number of cores, which is half of `processors` where each core
/// runs two threads.
fn default_threads(processors: usize) -> usize {
    let mut threads = 0;
    // SAFETY: the call writes to a local variable.
    let read = checked(unsafe { finetune_default_threads(&raw mut threads) });
    read.ok().and_then(|()| usize::try_from(threads).ok()).unwrap_or(processors)
}

/// Returns the number of threads for `available` processors. A number that is not one of the `defaults` was set by a
/// call, and is kept.
fn within(available: usize, threads: usize, defaults: &[usize]) -> usize {
    if defaults.contains(&threads) { threads.min(available) } else { threads }
}

/// The functions of GNU's OpenMP that libtorch was loaded with.
#[derive(Clone, Copy)]
struct OpenMp {
    #[cfg(unix)]
    parallel: Parallel,
    #[cfg(unix)]
    processors: unsafe extern "C" fn() -> std::ffi::c_int,
}

/// The type of `GOMP_parallel`. The arguments are the function that each thread of the team calls, its argument,
/// the number of threads, and flags.
#[cfg(unix)]
type Parallel = unsafe extern "C" fn(
    extern "C" fn(*mut std::ffi::c_void),
    *mut std::ffi::c_void,
    std::ffi::c_uint,
    std::ffi::c_uint,
);

#[cfg(unix)]
impl OpenMp {
    /// Returns the functions if this process has loaded GNU's OpenMP. LLVM's OpenMP also exports them, but its
    /// waiting threads behave differently.
    fn find() -> Option<Self> {
        let program = libloading::os::unix::Library::this();
        // SAFETY: the symbol is looked up, but not used.
        if unsafe { program.get::<unsafe extern "C" fn()>(b"kmp_set_blocktime\0") }.is_ok() {
            return None;
        }
        // SAFETY: these are the signatures in GNU's `libgomp_g.h` and `omp.h`, which its ABI guarantees. The library
        // is a dependency of libtorch and stays loaded with it.
        unsafe {
            let parallel = *program.get::<Parallel>(b"GOMP_parallel\0").ok()?;
            let processors = *program.get(b"omp_get_num_procs\0").ok()?;
            Some(Self { parallel, processors })
        }
    }

    fn processors(self) -> usize {
        // SAFETY: the function has no arguments and returns a number.
        let n = unsafe { (self.processors)() };
        usize::try_from(n).unwrap_or(1).max(1)
    }

    /// Starts a team of `size` threads that sleeps until the process ends.
    fn start_idle_team(self, size: usize) {
        extern "C" fn nothing(_: *mut std::ffi::c_void) {}

        let size = std::ffi::c_uint::try_from(size).unwrap_or(2);
        let idle = move || {
            // SAFETY: the signature is that in `find`; `nothing` does not use its argument and does not unwind.
            unsafe { (self.parallel)(nothing, std::ptr::null_mut(), size, 0) };
            loop {
                thread::park(); // the team lives as long as the thread that started it
            }
        };
        // If the thread cannot be started, waiting threads spin, as they do without this crate.
        drop(thread::Builder::new().name("openmp-idle".into()).spawn(idle));
    }
}

#[cfg(not(unix))]
impl OpenMp {
    fn find() -> Option<Self> {
        None
    }

    fn processors(self) -> usize {
        1
    }

    fn start_idle_team(self, _: usize) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_quota_lowers_the_default_number_of_threads_only() {
        // Sixteen cores with two threads each: libtorch starts one thread per core.
        for (available, threads, expected) in
            [(2, 16, 2), (2, 32, 2), (20, 32, 20), (20, 16, 16), (32, 16, 16), (2, 6, 6), (2, 1, 1)]
        {
            let found = within(available, threads, &[32, 16]);
            assert_eq!(found, expected, "{threads} threads for {available} processors");
        }
        assert!(default_threads(0) > 0);
    }

    /// Runs many short operations with pauses in a separate process. Spinning threads would use processor time
    /// during the pauses.
    #[test]
    fn waiting_threads_sleep() {
        let test = ["--exact", "--ignored", "sys::threads::tests::alone"];
        let program = env::current_exe().unwrap();
        let mut child = std::process::Command::new(program);
        child.args(test).env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT");
        let done = child.env("OMP_NUM_THREADS", "2").output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by another test, in a separate process"]
    fn alone() {
        // The seconds of processor time used by this process.
        let used = || {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            let ticks = fields[11..13].iter().map(|n| n.parse::<f64>().unwrap()).sum::<f64>();
            ticks / 100.0
        };
        let Some(openmp) = OpenMp::find() else { return };
        share_processors();
        // OpenMP counts the idle team only after it has started.
        thread::sleep(std::time::Duration::from_millis(300));
        let x = tch::Tensor::ones([1 << 17], (tch::Kind::Float, tch::Device::Cpu));
        let before = used();
        for _ in 0..200 {
            drop(x.exp());
            thread::sleep(std::time::Duration::from_millis(3));
        }
        let used = used() - before;
        assert!(openmp.processors() == 1 || used < 0.3, "{used} s of processor time in 0.6 s");
    }
}

//! Several processes that train one model together, by libtorch's own engine.
//!
//! A program becomes a job of several processes by
//! [`Learner::distributed`](crate::learner::Learner::distributed), when `torchrun`, `srun`, `mpirun` or
//! [`launch`] started it. [The guide](crate::guide::distributed) shows how.

mod environment;
mod launch;
mod member;
mod watch;
mod world;

pub use {
    environment::Environment,
    launch::{LaunchOptions, LaunchOutput, Launched, launch},
};

pub(crate) use world::World;

use crate::{
    error::Result,
    sys::{self, CudaStatus},
};
use tch::Device;

/// The number of this process in its job, from 0: what the launcher says, and 0 without a launcher.
/// Variables of a launcher that cannot be used are reported by
/// [`Learner::distributed`](crate::learner::Learner::distributed) and [`barrier`]; here they count as none.
#[must_use]
pub fn rank() -> usize {
    place().map_or(0, |place| place.rank)
}

/// The number of processes in this process's job: what the launcher says, and 1 without a launcher.
#[must_use]
pub fn world_size() -> usize {
    place().map_or(1, |place| place.world_size)
}

/// The number of this process on its machine, from 0: that of its GPU. 0 without a launcher.
#[must_use]
pub fn local_rank() -> usize {
    place().map_or(0, |place| place.local_rank)
}

fn place() -> Option<&'static Environment> {
    Environment::read().ok().flatten()
}

/// Whether this process writes files: not where it trains together with a rank 0.
#[cfg(feature = "show")]
pub(crate) fn writes_files() -> bool {
    World::joined().is_none_or(|world| world.is_first())
}

/// Returns this process's CUDA device if CUDA is available, otherwise the CPU: the first device, or that of
/// [`local_rank`] where a launcher started several processes on this machine. Loads libtorch's CUDA half if
/// it is there.
#[must_use]
pub fn default_device() -> Device {
    match sys::cuda() {
        // More processes than GPUs are an error of `Learner::distributed`.
        CudaStatus::Available(n) => Device::Cuda(local_rank() % n as usize),
        _ => Device::Cpu,
    }
}

/// Waits until every process of the job is here. Joins the job if this process has not done so.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the launcher's variables cannot be used,
/// [`Error::Distributed`](crate::Error::Distributed) if a process does not come.
pub fn barrier() -> Result<()> {
    World::get()?.barrier()
}

/// Calls `f` in the process with rank 0 and nowhere else, for printing and writing. The other processes do
/// not wait: see [`barrier`].
///
/// ```
/// # use finetune::distributed::only_on_rank_0;
/// let answer = only_on_rank_0(|| 42);
/// assert_eq!(answer, Some(42)); // without a launcher there is only rank 0
/// ```
pub fn only_on_rank_0<T>(f: impl FnOnce() -> T) -> Option<T> {
    (rank() == 0).then(f)
}

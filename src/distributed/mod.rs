//! Training one model with several processes, with libtorch's c10d.
//!
//! [`Learner::distributed`](crate::learner::Learner::distributed) makes a program one process of a job that
//! was started by `torchrun`, `srun`, `mpirun` or [`launch`]. See [the guide](crate::guide::distributed).

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

/// Returns the rank of this process in its job, from 0; 0 without a launcher. Invalid variables of a
/// launcher are reported by [`Learner::distributed`](crate::learner::Learner::distributed) and [`barrier`];
/// here they are ignored.
#[must_use]
pub fn rank() -> usize {
    place().map_or(0, |place| place.rank)
}

/// Returns the number of processes in this process's job; 1 without a launcher.
#[must_use]
pub fn world_size() -> usize {
    place().map_or(1, |place| place.world_size)
}

/// Returns the rank of this process on its machine, from 0, which is the number of its GPU. 0 without a
/// launcher.
#[must_use]
pub fn local_rank() -> usize {
    place().map_or(0, |place| place.local_rank)
}

fn place() -> Option<&'static Environment> {
    Environment::read().ok().flatten()
}

/// Returns true if this process writes files: false if it trains together with a rank 0.
#[cfg(feature = "show")]
pub(crate) fn writes_files() -> bool {
    World::joined().is_none_or(|world| world.is_first())
}

/// Returns this process's CUDA device if CUDA is available, otherwise the CPU: the first device, or that of
/// [`local_rank`] if a launcher started several processes on this machine. Loads libtorch's CUDA libraries
/// if they exist.
#[must_use]
pub fn default_device() -> Device {
    match sys::cuda() {
        // `Learner::distributed` reports an error if there are more processes than GPUs.
        CudaStatus::Available(n) => Device::Cuda(local_rank() % n as usize),
        _ => Device::Cpu,
    }
}

/// Waits until every process of the job has called it. Joins the job if this process has not done so.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the launcher's variables are invalid,
/// [`Error::Distributed`](crate::Error::Distributed) if a process does not arrive.
pub fn barrier() -> Result<()> {
    World::get()?.barrier()
}

/// Calls `f` only in the process with rank 0, for printing and writing. The other processes do not wait;
/// see [`barrier`].
///
/// ```
/// # use finetune::distributed::only_on_rank_0;
/// let answer = only_on_rank_0(|| 42);
/// assert_eq!(answer, Some(42)); // without a launcher there is only rank 0
/// ```
pub fn only_on_rank_0<T>(f: impl FnOnce() -> T) -> Option<T> {
    (rank() == 0).then(f)
}

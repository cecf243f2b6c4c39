//! Loads libtorch's CUDA half at run time.

use crate::error::{Error, Result};
use std::{path::PathBuf, sync::OnceLock};
use tch::Device;

/// Whether CUDA can be used, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CudaStatus {
    /// There are this many GPUs.
    Available(i64),
    /// This libtorch has no CUDA half.
    NotInLibtorch,
    /// The CUDA half is there and cannot be loaded: the loader's message.
    NotLoadable(String),
    /// The CUDA half is loaded and finds no GPU or no driver.
    NoGpu,
}

/// Loads libtorch's CUDA half, once, and tells what became of it. Without this the linker may have
/// dropped it from a program that names nothing of it, and CUDA would seem to be absent.
pub fn cuda() -> CudaStatus {
    static STATUS: OnceLock<CudaStatus> = OnceLock::new();
    STATUS.get_or_init(load).clone()
}

/// Checks that tensors can be on a device: otherwise libtorch panics deep inside.
///
/// # Errors
/// [`Error::Unsupported`] if it is a GPU that is not there.
pub(crate) fn check_device(device: Device) -> Result<()> {
    let why = match device {
        Device::Cpu => return Ok(()),
        Device::Cuda(n) => match cuda() {
            CudaStatus::Available(gpus) if (n as i64) < gpus => return Ok(()),
            CudaStatus::Available(gpus) => format!("there are {gpus} GPUs, counted from 0"),
            CudaStatus::NotInLibtorch => "this libtorch has no CUDA half".to_owned(),
            CudaStatus::NotLoadable(why) => format!("libtorch's CUDA half cannot be loaded: {why}"),
            CudaStatus::NoGpu => "there is no GPU, or no driver for it".to_owned(),
        },
        Device::Mps if tch::utils::has_mps() => return Ok(()),
        Device::Vulkan if tch::utils::has_vulkan() => return Ok(()),
        Device::Mps | Device::Vulkan => "this libtorch does not have it".to_owned(),
    };
    Err(Error::unsupported(
        "device",
        format!("{device:?} cannot be used: {why}; use `Device::Cpu`"),
    ))
}

fn load() -> CudaStatus {
    let found = |n: i64| if n > 0 { CudaStatus::Available(n) } else { CudaStatus::NoGpu };
    if tch::utils::has_cuda() {
        return found(tch::Cuda::device_count());
    }
    let Some(library) = library() else { return CudaStatus::NotInLibtorch };
    match open(&library) {
        Ok(()) => found(tch::Cuda::device_count()),
        Err(why) => CudaStatus::NotLoadable(why),
    }
}

/// `libtorch_cuda` beside the libtorch that this program runs with.
fn library() -> Option<PathBuf> {
    let name = if cfg!(windows) { "torch_cuda.dll" } else { "libtorch_cuda.so" };
    let path = folder()?.join(name);
    path.exists().then_some(path)
}

/// The folder of the libtorch that this program runs with.
#[cfg(target_os = "linux")]
pub(crate) fn folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|l| l.contains("libtorch_cpu.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    path.parent().map(ToOwned::to_owned)
}

/// The folder of the libtorch that this program runs with: where the build found it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn folder() -> Option<PathBuf> {
    option_env!("FINETUNE_LIBTORCH_LIB").map(PathBuf::from)
}

#[cfg(unix)]
fn open(path: &std::path::Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch's own library, whose initializers register kernels with the libtorch loaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    // Kept for as long as the program runs: the kernels are in it.
    library.map(std::mem::forget).map_err(|e| e.to_string())
}

#[cfg(not(unix))]
fn open(path: &std::path::Path) -> Result<(), String> {
    // SAFETY: libtorch's own library, whose initializers register kernels with the libtorch loaded.
    let library = unsafe { libloading::Library::new(path) };
    library.map(std::mem::forget).map_err(|e| e.to_string())
}

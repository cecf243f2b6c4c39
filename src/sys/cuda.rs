//! Loads libtorch's CUDA libraries at run time.

use super::native;
use crate::error::{Error, Result};
use std::{error::Error as _, path::PathBuf, sync::OnceLock};
use tch::Device;

/// The availability of CUDA, or the reason why it is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CudaStatus {
    /// CUDA is available, with this number of GPUs.
    Available(i64),
    /// This libtorch has no CUDA libraries.
    NotInLibtorch,
    /// The CUDA libraries exist but cannot be used. Contains the loader's message, or that they were loaded too
    /// late.
    NotLoadable(String),
    /// The CUDA libraries are loaded, but there is no GPU or no driver.
    NoGpu,
}

/// Loads libtorch's CUDA libraries at the first call, and returns the availability of CUDA. A linker drops these
/// libraries from a program that uses none of their symbols, so a GPU can only be used after this call.
/// [`default_device`](crate::default_device), and every function that takes a CUDA device, make it.
///
/// libtorch looks for its CUDA libraries once. If it did so before this call, for example in
/// `tch::Cuda::is_available`, `tch::manual_seed`, or for a model on the CPU, this process cannot use a GPU, and the
/// result is [`CudaStatus::NotLoadable`]. A program that does such work first must call this function before it.
pub fn cuda() -> CudaStatus {
    static STATUS: OnceLock<CudaStatus> = OnceLock::new();
    STATUS.get_or_init(load).clone()
}

/// Checks that tensors can be placed on a device. Otherwise, methods of `tch` would panic later.
///
/// # Errors
/// [`Error::Unsupported`] if the device is not available.
pub(crate) fn check_device(device: Device) -> Result<()> {
    let why = match device {
        Device::Cpu => return Ok(()),
        Device::Cuda(n) => match cuda() {
            CudaStatus::Available(gpus) if (n as i64) < gpus => return Ok(()),
            CudaStatus::Available(gpus) => format!("there are {gpus} GPUs, counted from 0"),
            CudaStatus::NotInLibtorch => "this libtorch has no CUDA libraries".to_owned(),
            CudaStatus::NotLoadable(why) => {
                format!("libtorch's CUDA libraries cannot be loaded: {why}")
            }
            CudaStatus::NoGpu => "there is no GPU, or no driver for it".to_owned(),
        },
        Device::Mps if tch::utils::has_mps() => return Ok(()),
        Device::Vulkan if tch::utils::has_vulkan() => return Ok(()),
        Device::Mps | Device::Vulkan => "this libtorch does not support it".to_owned(),
    };
    Err(Error::unsupported(
        "device",
        format!("{device:?} cannot be used: {why}; use `Device::Cpu`"),
    ))
}

fn load() -> CudaStatus {
    // The library must be loaded before the first question to libtorch about CUDA: libtorch keeps the answer.
    let library = library();
    if let Some(Err(why)) = library.as_deref().map(open) {
        return CudaStatus::NotLoadable(why);
    }
    match native::has_cuda_half() {
        Ok(true) => {}
        Ok(false) if library.is_none() => return CudaStatus::NotInLibtorch,
        Ok(false) => return CudaStatus::NotLoadable(TOO_LATE.to_owned()),
        Err(why) => return CudaStatus::NotLoadable(why.to_string()),
    }
    match tch::Cuda::device_count() {
        n if n > 0 => CudaStatus::Available(n),
        _ => CudaStatus::NoGpu,
    }
}

const TOO_LATE: &str = "libtorch looked for it before it was loaded: call `finetune::cuda()` at the start of the \
                        program, before models and backward passes on the CPU, `tch::manual_seed` and \
                        `tch::Cuda::is_available`";

/// Returns the path of `libtorch_cuda` in the folder of the libtorch that this program runs with, if it exists.
fn library() -> Option<PathBuf> {
    let name = if cfg!(windows) { "torch_cuda.dll" } else { "libtorch_cuda.so" };
    let path = folder()?.join(name);
    path.exists().then_some(path)
}

/// Returns the folder of the libtorch that this program runs with.
#[cfg(target_os = "linux")]
pub(crate) fn folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|l| l.contains("libtorch_cpu.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    path.parent().map(ToOwned::to_owned)
}

/// Returns the folder of the libtorch that this program runs with: that of the build.
#[cfg(not(target_os = "linux"))]
pub(crate) fn folder() -> Option<PathBuf> {
    option_env!("FINETUNE_LIBTORCH_LIB").map(PathBuf::from)
}

#[cfg(unix)]
fn open(path: &std::path::Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: this is libtorch's own library; its initializers register kernels with the loaded libtorch.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded, since it contains the registered kernels.
    library.map(std::mem::forget).map_err(|e| reason(&e))
}

#[cfg(not(unix))]
fn open(path: &std::path::Path) -> Result<(), String> {
    // SAFETY: this is libtorch's own library; its initializers register kernels with the loaded libtorch.
    let library = unsafe { libloading::Library::new(path) };
    library.map(std::mem::forget).map_err(|e| reason(&e))
}

/// Returns the message of the system's loader, which names the missing library.
fn reason(e: &libloading::Error) -> String {
    e.source().map_or_else(|| e.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_cannot_be_loaded_is_named() {
        let file = tempfile::Builder::new().suffix("libtorch_cuda.so").tempfile().unwrap();
        let why = open(file.path()).unwrap_err();
        assert!(why.contains("libtorch_cuda.so"), "{why}");
    }
}

//! Describes the environment on this machine, for bug reports and first steps.

use crate::{
    model::checkpoints,
    sys::{self, CudaStatus},
};
use std::{fmt, path::PathBuf, thread};

/// A description of the environment on this machine; see [`doctor`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The version of this crate.
    pub finetune: &'static str,
    /// The version of the libtorch that this program was compiled against.
    pub libtorch: String,
    /// The folder of the libtorch that this program runs with, if known.
    pub libtorch_folder: Option<PathBuf>,
    /// The availability of CUDA, or the reason why it is not available.
    pub cuda: CudaStatus,
    /// The version text of NVIDIA's driver, if there is one. Linux only.
    pub driver: Option<String>,
    /// True if cuDNN is available.
    pub cudnn: bool,
    /// The number of processors that are available to this program.
    pub processors: usize,
    /// The number of threads that libtorch uses within an operation, in training and prediction.
    pub threads: usize,
    /// The instructions that libtorch uses: `DEFAULT`, `AVX2`, `AVX512` and so on.
    pub capability: String,
    /// The names of the instructions that speed up training, with true if the processor supports them.
    pub features: Vec<(&'static str, bool)>,
    /// The folders of downloads, each with a description of its content; for an unknown folder, the reason.
    pub folders: Vec<(&'static str, Result<PathBuf, String>)>,
}

/// Examines the environment and returns a description. Never fails, with or without CUDA.
///
/// ```
/// let found = finetune::doctor();
/// println!("{found}");
/// assert!(found.libtorch.starts_with('2'));
/// ```
#[must_use]
pub fn doctor() -> Diagnosis {
    let cuda = sys::cuda();
    // Otherwise the number of threads ignores the quota of a control group.
    sys::share_processors();
    Diagnosis {
        finetune: env!("CARGO_PKG_VERSION"),
        libtorch: sys::version(),
        libtorch_folder: sys::folder(),
        cudnn: matches!(cuda, CudaStatus::Available(_)) && tch::Cuda::cudnn_is_available(),
        cuda,
        driver: driver(),
        processors: thread::available_parallelism().map_or(1, Into::into),
        threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
        capability: sys::capability(),
        features: sys::processor_features(),
        folders: folders(),
    }
}

/// Returns the folders of downloads.
fn folders() -> Vec<(&'static str, Result<PathBuf, String>)> {
    #[cfg(feature = "download")]
    let of_fastai = |kind| crate::download::fastai_path(kind).map_err(|e| e.to_string());
    vec![
        ("pretrained weights", Ok(checkpoints())),
        #[cfg(feature = "download")]
        ("data sets", of_fastai("data")),
        #[cfg(feature = "download")]
        ("archives of data sets", of_fastai("archive")),
    ]
}

/// Returns the driver's version text.
fn driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "finetune   {}", self.finetune)?;
        write!(f, "libtorch   {}", self.libtorch)?;
        match &self.libtorch_folder {
            Some(folder) => writeln!(f, " in {}", folder.display())?,
            None => writeln!(f, ", in an unknown folder")?,
        }
        writeln!(f, "CUDA       {}", self.cuda_text())?;
        if matches!(self.cuda, CudaStatus::Available(_)) {
            writeln!(f, "cuDNN      {}", if self.cudnn { "yes" } else { "no" })?;
        }
        writeln!(f, "threads    {} of libtorch, {} processors", self.threads, self.processors)?;
        let yes =
            |(name, has): &(&str, bool)| format!("{name} {}", if *has { "yes" } else { "no" });
        let features: Vec<_> = self.features.iter().map(yes).collect();
        writeln!(f, "processor  {}; libtorch uses {}", features.join(", "), self.capability)?;
        for (what, folder) in &self.folders {
            match folder {
                Ok(folder) => {
                    let there = if folder.is_dir() { "" } else { " (does not exist yet)" };
                    writeln!(f, "folder     {} for {what}{there}", folder.display())?;
                }
                Err(why) => writeln!(f, "folder     unknown for {what}: {why}")?,
            }
        }
        Ok(())
    }
}

impl Diagnosis {
    fn cuda_text(&self) -> String {
        match (&self.cuda, &self.driver) {
            (CudaStatus::Available(1), _) => "yes, with 1 GPU".into(),
            (CudaStatus::Available(n), _) => format!("yes, with {n} GPUs"),
            (CudaStatus::NotInLibtorch, _) => {
                "no: this libtorch is for CPUs only; install one with CUDA to use a GPU".into()
            }
            (CudaStatus::NotLoadable(why), _) => {
                format!("no: libtorch's CUDA libraries exist but cannot be loaded: {why}")
            }
            (CudaStatus::NoGpu, Some(driver)) => format!(
                "no: libtorch has CUDA and there is a driver ({driver}), but no usable GPU; \
                 is CUDA_VISIBLE_DEVICES set?"
            ),
            (CudaStatus::NoGpu, None) => {
                "no: libtorch has CUDA, but no GPU driver was found".into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_cuda_is_told() {
        let mut found = doctor();
        let states = [
            (CudaStatus::Available(2), "2 GPUs"),
            (CudaStatus::NotInLibtorch, "CPUs only"),
            (CudaStatus::NotLoadable("libcudart.so.13: not found".into()), "libcudart.so.13"),
            (CudaStatus::NoGpu, "no GPU driver"),
        ];
        found.driver = None;
        for (cuda, text) in states {
            found.cuda = cuda;
            assert!(found.to_string().contains(text), "{found}");
        }
    }

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        let found = doctor();
        let folder = found.libtorch_folder.clone().unwrap();
        assert!(folder.is_dir(), "{}", folder.display());
        assert!(found.threads > 0 && found.processors > 0);
        let is_set = |name| std::env::var_os(name).is_some();
        if !is_set("OMP_NUM_THREADS") && !is_set("MKL_NUM_THREADS") {
            assert!(found.threads <= found.processors, "{found}");
        }
        assert!(!found.capability.is_empty(), "{found}");
    }
}

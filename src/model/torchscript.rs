//! Writes a model as a TorchScript file, for PyTorch and other programs that use libtorch.

use super::Model;
use crate::{
    disk::Temporary,
    error::{Error, Result},
    sys,
};
use std::path::Path;
use tch::Tensor;

/// The file inside the TorchScript archive that describes the model.
const ABOUT: &str = "finetune.json";

impl Model {
    /// Writes the model in evaluation mode to a TorchScript file (`.pt`), by tracing it on two batches of copies of
    /// the first image of `example`, a batch `[N, C, H, W]`. The file accepts any number of images. It accepts other
    /// sizes of images too, unless the network computes with the size, as transformers and the padding of TensorFlow
    /// do. Parameters keep their names.
    ///
    /// Python's `torch.jit.load`, C++'s `torch::jit::load` and [`CModule::load`](tch::CModule::load) read
    /// it. `about` is stored as the extra file `finetune.json`.
    ///
    /// ```
    /// use finetune::{model::{ArchSpec, HeadOptions, squeezenet1_1}, seed::Seed};
    /// use finetune::tch::{self, CModule, Device, IndexOp as _, Tensor};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("model.pt");
    /// let spec = ArchSpec::new(&squeezenet1_1(), 3, 2, HeadOptions::new());
    /// let model = spec.build(Device::Cpu, Seed(1))?;
    /// let x = Tensor::rand([2, 3, 64, 64], tch::kind::FLOAT_CPU);
    /// model.export_torchscript(&path, &x.i(..1), "{}")?;
    ///
    /// let read = CModule::load(&path)?.forward_ts(&[&x])?;
    /// assert!(read.allclose(&model.forward(&x, false)?, 1e-5, 1e-5, false));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the model does not accept the example or cannot be traced, for example because it runs
    /// other operations for another number of images; [`Error::Mismatch`] if `example` is empty; [`Error::Io`] if the
    /// file cannot be written.
    pub fn export_torchscript(
        &self,
        path: impl AsRef<Path>,
        example: &Tensor,
        about: &str,
    ) -> Result<()> {
        let path = path.as_ref();
        let shape = example.size();
        if shape.is_empty() || shape.contains(&0) {
            let why = format!("`example` is {shape:?}; it must be a batch [N, C, H, W]");
            return Err(Error::mismatch("export_torchscript", why));
        }
        let parameters = self.params.iter().map(|p| (p.name.clone(), p.tensor.shallow_clone()));
        let parameters: Vec<_> = parameters.collect();
        let what = sys::TraceOptions {
            parameters: &parameters,
            buffers: &self.buffers,
            files: &[(ABOUT, about)],
        };
        let [small, large] = sys::BATCHES;
        let (small, large) = (self.copies_of(example, small)?, self.copies_of(example, large)?);
        let file = Temporary::create(path).map_err(Error::io(path))?;
        let done = sys::trace([&small, &large], file.path(), &what, |x| self.forward(x, false));
        done.map_err(|e| {
            let why = format!("{}: {e} (the example is {shape:?})", path.display());
            Error::unsupported("export_torchscript", why)
        })?;
        file.place().map(drop).map_err(Error::io(path))
    }

    /// Returns a batch of `n` copies of the first item of `example`, on the device of the model.
    pub(crate) fn copies_of(&self, example: &Tensor, n: i64) -> Result<Tensor> {
        let mut times = vec![1; example.dim()];
        if let Some(items) = times.first_mut() {
            *items = n;
        }
        Ok(example.f_narrow(0, 0, 1)?.f_to_device(self.device())?.f_repeat(&times[..])?)
    }
}

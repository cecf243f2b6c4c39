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
    /// Writes the model in evaluation mode to a TorchScript file (`.pt`), by tracing it on `example`, a
    /// batch `[N, C, H, W]`. The file accepts other numbers of images, and other sizes if the network does.
    /// Parameters keep their names.
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
    /// [`Error::Unsupported`] if the model does not accept the example or cannot be traced; [`Error::Io`] if the
    /// file cannot be written.
    pub fn export_torchscript(
        &self,
        path: impl AsRef<Path>,
        example: &Tensor,
        about: &str,
    ) -> Result<()> {
        let path = path.as_ref();
        let parameters = self.params.iter().map(|p| (p.name.clone(), p.tensor.shallow_clone()));
        let parameters: Vec<_> = parameters.collect();
        let what = sys::TraceOptions {
            parameters: &parameters,
            buffers: &self.buffers,
            files: &[(ABOUT, about)],
        };
        let example = example.to_device(self.device());
        let file = Temporary::create(path).map_err(Error::io(path))?;
        sys::trace(&example, file.path(), &what, |x| self.forward(x, false)).map_err(|e| {
            let why = format!("{}: {e} (the example is {:?})", path.display(), example.size());
            Error::unsupported("export_torchscript", why)
        })?;
        file.place().map(drop).map_err(Error::io(path))
    }
}

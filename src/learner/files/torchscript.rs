//! Export to TorchScript.

use super::{export::ExportOptions, weights};
use crate::{
    error::{Error, Result},
    learner::Learner,
};
use tch::Kind;

impl Learner {
    /// Writes the model as TorchScript (`.pt`) for Python's `torch.jit.load`, by tracing its forward pass
    /// on copies of one validation image.
    ///
    /// The input is a batch `[N, C, H, W]` of floats after all transforms, including normalization, of any number of
    /// images. The
    /// output is that of [`Model::forward`](crate::model::Model::forward): logits, before any softmax. The
    /// extra file `finetune.json` describes the preprocessing and the outputs, with `task` (and its
    /// vocabulary), `input` (the shape that was traced), `item_tfms` and `batch_tfms`:
    ///
    /// ```text
    /// about = {"finetune.json": ""}
    /// model = torch.jit.load("pets.pt", _extra_files=about)
    /// task = json.loads(about["finetune.json"])["task"]
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the model cannot be traced; [`Error::Io`] if the file cannot be written;
    /// [`Error::NonFiniteWeights`] for weights that are NaN or infinite, unless
    /// [allowed](ExportOptions::allow_non_finite); an error of the data if no image can be read.
    pub fn export_torchscript(&self, options: impl Into<ExportOptions>) -> Result<()> {
        let options = options.into();
        let t = &self.training;
        options.check(&t.model)?;
        if !t.is_first_rank() {
            return Ok(());
        }
        let batch = t.dls.valid().one_batch().or_else(|_| t.dls.train().one_batch())?;
        let example = batch.x.narrow(0, 0, 1).to_kind(Kind::Float);
        let tfms = weights::transforms(t).map_err(Error::other)?;
        let about = serde_json::json!({
            "task": t.dls.task(),
            "input": example.size(),
            "item_tfms": tfms.item,
            "batch_tfms": tfms.batch,
        });
        let about = serde_json::to_string(&about).map_err(Error::other)?;
        t.model.export_torchscript(options.path(), &example, &about)
    }
}

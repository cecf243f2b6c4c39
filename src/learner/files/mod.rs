//! Files of a learner: weights, fastai checkpoints, TorchScript.

pub(in crate::learner) mod export;
pub(in crate::learner) mod fastai;
mod save;
pub(in crate::learner) mod torchscript;
pub(crate) mod weights;

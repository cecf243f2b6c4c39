//! Files of a learner: weights, fastai checkpoints, TorchScript, ONNX.

pub(in crate::learner) mod export;
pub(in crate::learner) mod fastai;
pub(in crate::learner) mod onnx;
#[cfg(feature = "onnx")]
mod onnx_check;
#[cfg(not(feature = "onnx"))]
#[path = "onnx_unchecked.rs"]
mod onnx_check;
pub(in crate::learner) mod onnx_report;
mod save;
pub(in crate::learner) mod torchscript;
pub(crate) mod weights;

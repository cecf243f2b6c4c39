//! Runs ONNX files with [tract](https://github.com/sonos/tract), to verify what was exported.

use crate::{
    error::{Error, Result},
    sys::caught,
};
use std::sync::Arc;
use tract_onnx::prelude::{
    Datum, DatumExt as _, Framework as _, InferenceModelExt as _, IntoRunnable as _, Tensor,
    TractResult, TypedRunnableModel, tvec,
};

/// The name of the runtime in reports.
pub(crate) const RUNTIME: &str = "tract";

/// A network that tract runs, for batches of one size. Threads can share it.
#[derive(Clone)]
pub(crate) struct Network {
    plan: Arc<TypedRunnableModel>,
    shape: Vec<usize>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Network {
    /// Reads a file, for inputs of type `T` and of `shape`, the number of images first.
    pub(crate) fn new<T: Datum>(file: &[u8], shape: &[usize]) -> Result<Self> {
        let plan = || -> TractResult<Arc<TypedRunnableModel>> {
            let model = tract_onnx::onnx().model_for_read(&mut &*file)?;
            model.with_input_fact(0, T::fact(shape).into())?.into_optimized()?.into_runnable()
        };
        let plan = caught(|| plan().map_err(failed))?;
        Ok(Self { plan, shape: shape.to_vec() })
    }

    /// Returns the outputs for a batch, row by row.
    pub(crate) fn run<T: Datum + Copy>(&self, input: &[T]) -> Result<Vec<f32>> {
        let run = || -> TractResult<Vec<f32>> {
            let input = Tensor::from_shape(&self.shape, input)?;
            let outputs = self.plan.run(tvec!(input.into()))?;
            Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
        };
        caught(|| run().map_err(failed))
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::unsupported(RUNTIME, format!("{e:#}"))
}

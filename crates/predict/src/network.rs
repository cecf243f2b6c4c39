//! A network that tract runs.

use crate::{failure::failed, file::File, outputs};
use finetune_image::{Error, Result, card::NetworkInput};
use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::{
    pb::ModelProto,
    prelude::{
        DatumType, Framework as _, InferenceFact, InferenceModelExt as _, IntoRunnable as _,
        Tensor, TractResult, TypedRunnableModel, tvec,
    },
};

/// A network for one image at a time. Threads can share it.
#[derive(Clone)]
pub(crate) struct Network {
    plan: Arc<TypedRunnableModel>,
    /// The shape of the output, with a batch of 1.
    pub(crate) output: Vec<usize>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("output", &self.output).finish_non_exhaustive()
    }
}

impl Network {
    fn new(proto: ModelProto, kind: DatumType, input: [usize; 3], name: &Path) -> Result<Self> {
        caught(|| ready(proto, kind, input)).map_err(|why| {
            let why = format!("tract cannot build its network: {why}");
            Error::checkpoint(name, why)
        })
    }

    /// Returns the outputs of one image. It runs on all cores, unless the thread belongs to a pool of rayon,
    /// whose other threads are then left to other images.
    pub(crate) fn run(&self, input: Tensor) -> Result<Vec<f32>> {
        let run = || {
            caught(|| {
                let outputs = self.plan.run(tvec!(input.into()))?;
                Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
            })
        };
        let outputs = match rayon::current_thread_index() {
            None => multithread_tract_scope(Executor::RayonGlobal, run),
            Some(_) => run(),
        };
        outputs.map_err(failed)
    }
}

/// Runs `f`; errors and panics of tract become texts.
fn caught<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    let text = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or("a panic", |text| *text).to_owned(),
    };
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(done) => done.map_err(|e| format!("{e:#}")),
        Err(panic) => Err(text(panic)),
    }
}

fn ready(proto: ModelProto, kind: DatumType, [a, b, c]: [usize; 3]) -> TractResult<Network> {
    let model = tract_onnx::onnx().model_for_proto_model(&proto)?;
    // Otherwise the weights would be in memory twice while the network is optimized.
    drop(proto);
    let fact = InferenceFact::dt_shape(kind, [1, a, b, c]);
    let model = model.with_input_fact(0, fact)?.into_optimized()?;
    let output = model.output_fact(0)?.shape.as_concrete().unwrap_or_default().to_vec();
    Ok(Network { plan: model.into_runnable()?, output })
}

impl File {
    /// Builds the network, whose output must be the one of the task.
    pub(crate) fn network(self, name: &Path) -> Result<Network> {
        let Self { proto, card, input } = self;
        let kind = match card.input {
            NetworkInput::Pixels => DatumType::U8,
            _ => DatumType::F32,
        };
        let network = Network::new(proto, kind, input, name)?;
        let wanted = outputs::shape(&card, input);
        if network.output != wanted {
            let why = format!(
                "the output of its network is {:?}, and the task needs {wanted:?}",
                network.output
            );
            return Err(Error::checkpoint(name, why));
        }
        Ok(network)
    }
}

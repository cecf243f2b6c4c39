//! A network that tract runs.

use crate::{
    failure::failed,
    file::{self, File},
    input::Input,
};
use finetune_image::{
    Error, Result, caught,
    ndarray::{ArrayD, Axis, concatenate},
};
use rayon::prelude::*;
use std::{fmt, mem, path::Path, sync::Arc};
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::{
    data_resolver::FopenDataResolver,
    pb::{
        GraphProto, ModelProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_shape_proto::{Dimension, dimension::Value as Side},
        type_proto,
    },
    prelude::{
        Datum, DatumType, Framework as _, InferenceFact, InferenceModelExt as _,
        IntoArcTensor as _, IntoRunnable as _, Tensor, TractResult, TypedFact, TypedRunnableModel,
        tvec,
    },
    tensor::load_tensor,
    tract_core::ops::konst::Const,
};

/// The network of an exported file, for inputs that the program prepares itself. Threads can share it; clones
/// share its weights.
///
/// It needs no description of the preparation, so it also runs the files of `Model::export_onnx` and networks
/// whose input is not an image. [`Predictor`](crate::Predictor) prepares images and decodes the outputs.
///
/// ```no_run
/// use finetune_predict::{Network, ndarray::Array4};
///
/// let network = Network::load("pets.onnx")?;
/// let images = Array4::<f32>::zeros((2, 3, 224, 224)); // normalized as in training
/// let logits = network.run(images)?; // [2, classes]
/// # Ok::<(), finetune_predict::Error>(())
/// ```
#[derive(Clone)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    kind: DatumType,
    input: Vec<usize>,
    /// The shape of the output for one image.
    output: Vec<usize>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, input, output, .. } = self;
        f.debug_struct("Network")
            .field("kind", kind)
            .field("input", input)
            .field("output", output)
            .finish_non_exhaustive()
    }
}

/// Fails to compile if threads cannot share a network.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Network>();
};

impl Network {
    /// Reads a file that `Learner::export_onnx` or `Model::export_onnx` of `finetune` wrote. Files of other
    /// programs can be read if they have one input, of 32-bit floats or bytes, whose first axis counts the images
    /// and whose other axes are fixed, and one output of 32-bit floats.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::Checkpoint`] if it is damaged, has other inputs or
    /// outputs, or contains an operation that tract does not know.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(file::read(path)?, path)
    }

    /// As [`load`](Self::load), but from memory, for example from `include_bytes!`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let name = Path::new("the network in memory");
        Self::parse(file::decode(bytes, name)?, name)
    }

    fn parse(proto: ModelProto, name: &Path) -> Result<Self> {
        let file = File::checked(proto).map_err(|why| Error::checkpoint(name, why))?;
        Self::new(file, name)
    }

    /// Builds the network of a file. Errors call it `name`.
    pub(crate) fn new(file: File, name: &Path) -> Result<Self> {
        let File { proto, kind, input } = file;
        let built = tract(|| {
            let mut shape = vec![1];
            shape.extend_from_slice(&input);
            built(proto, InferenceFact::dt_shape(kind, shape))
        });
        let (plan, output) = built.map_err(|why| {
            Error::checkpoint(name, format!("tract cannot build its network: {why}"))
        })?;
        Ok(Self { plan, kind, input, output })
    }

    /// Returns the shape of the input without the number of images: `[C, H, W]` for images of floats, `[H, W, C]`
    /// for images of bytes.
    #[must_use]
    pub fn input_shape(&self) -> &[usize] {
        &self.input
    }

    /// Returns the shape of the output for one image, `[1, classes]` for a classifier.
    #[must_use]
    pub fn output_shape(&self) -> &[usize] {
        &self.output
    }

    /// Returns the outputs, with the number of images as the first axis: logits, unless the file contains the
    /// activation.
    ///
    /// Several images run one per core. One image runs on all cores, unless the thread belongs to a pool of
    /// rayon, whose other threads are then left to other images.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the input is empty or does not have the type or the shape of the network's.
    /// [`Error::Computation`] if tract cannot compute the network for it.
    pub fn run(&self, input: impl Into<Input>) -> Result<ArrayD<f32>> {
        match input.into() {
            Input::Floats(images) => self.each(&images),
            Input::Bytes(images) => self.each(&images),
        }
    }

    fn each<T: Datum + Copy>(&self, images: &ArrayD<T>) -> Result<ArrayD<f32>> {
        let sides = match images.shape() {
            [n, sides @ ..] if *n > 0 && sides == self.input && T::datum_type() == self.kind => {
                sides
            }
            shape => {
                let sides: Vec<String> = self.input.iter().map(ToString::to_string).collect();
                let why = format!(
                    "the input is {shape:?} of type {:?}, and the network needs [N, {}] of type {:?}",
                    T::datum_type(),
                    sides.join(", "),
                    self.kind
                );
                return Err(Error::mismatch("Network::run", why));
            }
        };
        let mut shape = vec![1];
        shape.extend_from_slice(sides);
        let images = images.as_standard_layout();
        let each = sides.iter().product();
        let one = |image: &[T]| self.one(&shape, image);
        // The layout is the standard one, so this is the whole array.
        let all = images.as_slice().unwrap_or_default();
        if all.len() == each {
            return one(all);
        }
        let outputs = all.par_chunks(each).map(one).collect::<Result<Vec<_>>>()?;
        let views: Vec<_> = outputs.iter().map(ArrayD::view).collect();
        concatenate(Axis(0), &views).map_err(|e| failed(e.to_string()))
    }

    fn one<T: Datum + Copy>(&self, shape: &[usize], image: &[T]) -> Result<ArrayD<f32>> {
        let run = || {
            tract(|| {
                let input = Tensor::from_shape(shape, image)?;
                let outputs = self.plan.run(tvec!(input.into()))?;
                let values = outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect();
                Ok(ArrayD::from_shape_vec(outputs[0].shape(), values)?)
            })
        };
        let outputs = match rayon::current_thread_index() {
            None => multithread_tract_scope(Executor::RayonGlobal, run),
            Some(_) => run(),
        };
        outputs.map_err(failed)
    }
}

/// Calls `f`. Errors and panics of tract become texts.
fn tract<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match caught(f) {
        Ok(done) => done.map_err(|e| format!("{e:#}")),
        Err(panic) => Err(panic.to_string()),
    }
}

/// Returns the network of a file for one image, and the shape of its output.
fn built(
    mut proto: ModelProto,
    input: InferenceFact,
) -> TractResult<(Arc<TypedRunnableModel>, Vec<usize>)> {
    // tract would copy all weights before the first of them is dropped. So it sees them as inputs, which are replaced
    // one by one.
    let weights = proto.graph.as_mut().map(weights_as_inputs).unwrap_or_default();
    let mut model = tract_onnx::onnx().model_for_proto_model(&proto)?;
    for tensor in weights {
        let values = load_tensor(&FopenDataResolver, &tensor, None)?.into_arc_tensor();
        let id = model.node_by_name(&tensor.name)?.id;
        model.inputs.retain(|input| input.node != id);
        let node = model.node_mut(id);
        node.outputs[0].fact = TypedFact::try_from(values.clone())?.into();
        node.op = Box::new(Const::new(values)?);
    }
    let model = model.with_input_fact(0, input)?.into_optimized()?;
    let output = model.output_fact(0)?.shape.as_concrete().unwrap_or_default().to_vec();
    Ok((model.into_runnable()?, output))
}

/// Takes the weights out of a graph and declares inputs of their names, types and shapes.
fn weights_as_inputs(graph: &mut GraphProto) -> Vec<TensorProto> {
    let weights = mem::take(&mut graph.initializer);
    for tensor in &weights {
        let side = |n: &i64| Dimension { value: Some(Side::DimValue(*n)), ..Dimension::default() };
        let shape = TensorShapeProto { dim: tensor.dims.iter().map(side).collect() };
        let kind = type_proto::Tensor { elem_type: tensor.data_type, shape: Some(shape) };
        let kind =
            TypeProto { value: Some(type_proto::Value::TensorType(kind)), ..TypeProto::default() };
        graph.input.push(ValueInfoProto {
            name: tensor.name.clone(),
            r#type: Some(kind),
            ..ValueInfoProto::default()
        });
    }
    weights
}

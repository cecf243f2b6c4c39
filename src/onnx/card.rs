//! The description in an exported network.

use crate::{
    error::{Error, Result},
    image::Decode,
    sample::Task,
    transform::{BatchSpec, ItemSpec},
};
use serde::{Deserialize, Serialize};

/// Describes an exported network: how images are prepared for it, and what its outputs mean. It is stored as JSON in the
/// metadata of an ONNX file, under the key [`ModelCard::KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelCard {
    /// The version of this description: [`ModelCard::VERSION`].
    pub(crate) version: u32,
    /// The task, with the vocabulary.
    pub(crate) task: Task,
    /// The decoding of image files.
    pub(crate) decode: Decode,
    /// The transforms of single images.
    pub(crate) item_tfms: Vec<ItemSpec>,
    /// The transforms of batches, normalization included.
    pub(crate) batch_tfms: Vec<BatchSpec>,
    /// The kind of input.
    pub(crate) input: NetworkInput,
    /// The kind of output.
    pub(crate) output: NetworkOutput,
}

/// The input of an exported network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NetworkInput {
    /// 32-bit floats `[N, C, H, W]` after all transforms.
    #[default]
    Prepared,
    /// Bytes `[N, H, W, C]` after the transforms of single images. Those of batches are part of the network.
    Pixels,
}

/// The output of an exported network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkOutput {
    /// The function that turns outputs into predictions.
    pub(crate) activation: OutputActivation,
    /// Whether the network contains the activation.
    pub(crate) applied: bool,
    /// The probability above which a category is predicted, for tasks with several.
    pub(crate) threshold: f64,
}

/// The function that turns outputs into predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputActivation {
    /// Nothing: the outputs are predictions.
    None,
    /// A softmax over the outputs of an image.
    Softmax,
    /// A sigmoid of each output.
    Sigmoid,
}

impl NetworkOutput {
    /// An activation, whether the network contains it, and the threshold.
    pub(crate) fn new(activation: OutputActivation, applied: bool, threshold: f64) -> Self {
        Self { activation, applied, threshold }
    }
}

impl ModelCard {
    /// The key in the metadata.
    pub(crate) const KEY: &'static str = "finetune";
    /// The version that this crate writes and reads.
    pub(crate) const VERSION: u32 = 1;

    /// A description of this version.
    pub(crate) fn new(
        task: Task,
        decode: Decode,
        item_tfms: Vec<ItemSpec>,
        batch_tfms: Vec<BatchSpec>,
        input: NetworkInput,
        output: NetworkOutput,
    ) -> Self {
        Self { version: Self::VERSION, task, decode, item_tfms, batch_tfms, input, output }
    }

    /// Returns the description as JSON.
    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::other)
    }
}

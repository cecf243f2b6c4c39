//! The description of a network in an exported file.

use crate::{
    error::{Error, Result},
    image::Decode,
    preparation::Preparation,
    sample::Task,
    transform::{BatchSpec, ItemSpec},
};
use serde::{Deserialize, Serialize};

/// The description of a network in an exported file: the preparation of its images, and the meaning of its
/// outputs. In an ONNX file, it is JSON in the metadata under the key [`ModelCard::KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelCard {
    /// The version of the description, [`ModelCard::VERSION`].
    pub version: u32,
    /// The task, which defines the meaning of the outputs.
    pub task: Task,
    /// The decoding options.
    pub decode: Decode,
    /// The transforms of single images.
    pub item_tfms: Vec<ItemSpec>,
    /// The transforms of batches, including normalization.
    pub batch_tfms: Vec<BatchSpec>,
    /// The input of the network.
    pub input: NetworkInput,
    /// The output of the network.
    pub output: NetworkOutput,
}

/// The input of an exported network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NetworkInput {
    /// 32-bit floats `[N, C, H, W]` after all transforms.
    #[default]
    Prepared,
    /// Bytes `[N, H, W, C]` after the item transforms. The network normalizes them.
    Pixels,
}

/// The output of an exported network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkOutput {
    /// The activation that turns outputs into predictions.
    pub activation: OutputActivation,
    /// True if the network contains the activation.
    pub applied: bool,
    /// The probability above which a category is predicted, for tasks with several categories per image.
    pub threshold: f64,
}

/// The activation that turns the outputs of a network into predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputActivation {
    /// None: the outputs are the predictions.
    None,
    /// A softmax over the outputs of an image; over the codes of each pixel for masks.
    Softmax,
    /// A sigmoid of each output.
    Sigmoid,
}

impl NetworkOutput {
    /// Creates the description of an output.
    #[must_use]
    pub fn new(activation: OutputActivation, applied: bool, threshold: f64) -> Self {
        Self { activation, applied, threshold }
    }
}

impl ModelCard {
    /// The key in the metadata of a file.
    pub const KEY: &'static str = "finetune";
    /// The version that this crate writes and reads.
    pub const VERSION: u32 = 1;

    /// Creates a description of the current version.
    #[must_use]
    pub fn new(
        task: Task,
        decode: Decode,
        item_tfms: Vec<ItemSpec>,
        batch_tfms: Vec<BatchSpec>,
        input: NetworkInput,
        output: NetworkOutput,
    ) -> Self {
        Self { version: Self::VERSION, task, decode, item_tfms, batch_tfms, input, output }
    }

    /// Parses a description.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is not a description, has another version, or contains a transform that
    /// this crate does not know.
    pub fn from_json(json: &str) -> Result<Self> {
        let wrong = |why: String| Error::unsupported("model description", why);
        let any: serde_json::Value =
            serde_json::from_str(json).map_err(|e| wrong(e.to_string()))?;
        let version = any.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(Self::VERSION)) {
            let found = version.map_or_else(|| "none".to_owned(), |v| v.to_string());
            let ours = Self::VERSION;
            return Err(wrong(format!("the version is {found}; this crate reads version {ours}")));
        }
        serde_json::from_value(any).map_err(|e| wrong(e.to_string()))
    }

    /// Returns the description as JSON.
    ///
    /// # Errors
    /// [`Error::Other`] if a number cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::other)
    }

    /// Returns the preparation of images for the network.
    ///
    /// # Errors
    /// [`Error::Config`] if an option of a transform is invalid.
    pub fn preparation(&self) -> Result<Preparation> {
        Preparation::new(self.decode, &self.item_tfms, &self.batch_tfms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_json_and_other_versions_are_errors() {
        let output = NetworkOutput::new(OutputActivation::Sigmoid, false, 0.4);
        let task = Task::Values { n: 2 };
        let input = NetworkInput::Prepared;
        let card = ModelCard::new(task, Decode::new(), vec![], vec![], input, output);
        let json = card.to_json().unwrap();
        assert_eq!(ModelCard::from_json(&json).unwrap(), card);
        let other = json.replace("\"version\":1", "\"version\":7");
        let why = ModelCard::from_json(&other).unwrap_err().to_string();
        assert!(why.contains("the version is 7"), "{why}");
        let why = ModelCard::from_json("{}").unwrap_err().to_string();
        assert!(why.contains("the version is none"), "{why}");
        assert!(ModelCard::from_json("[").is_err());
    }
}

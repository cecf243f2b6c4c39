//! The properties that must be equal when a run is resumed.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A property in which a program can differ from the one that wrote a checkpoint. A difference is an error
/// unless it is allowed with [`Checkpoint::allow`](super::Checkpoint::allow).
///
/// The number of workers is not compared: it never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Difference {
    /// The number of epochs. If allowed, the rest of the run follows the new policy.
    Epochs,
    /// The learning rates. If allowed, the rest of the run follows the new policy.
    LearningRate,
    /// Other settings of the policy: weight decay, the shape of the schedule, the first trained group. If
    /// allowed, the rest of the run follows the new policy.
    Policy,
    /// The number of items and their names, relative to their common folder.
    Items,
    /// The labels. For a [`Dataset`](crate::data::Dataset) of your own, up to 64 of them are compared.
    Labels,
    /// The classes and their order.
    Vocabulary,
    /// The assignment of items to training and validation.
    Split,
    /// Batch sizes, shuffling, the handling of a partial last batch, and sampling weights.
    Batches,
    /// The item transforms with their options. For closures, only their presence is compared.
    ItemTransforms,
    /// The batch transforms with their options. For closures, only their presence is compared.
    BatchTransforms,
    /// The architecture, and the names, shapes and groups of the parameters.
    Model,
    /// The optimizer with its options.
    Optimizer,
    /// The loss with its options.
    Loss,
    /// The columns of the table of epochs.
    Metrics,
    /// The callbacks that affect the training, with their options; see
    /// [`Callback::fingerprint`](crate::learner::Callback::fingerprint).
    Callbacks,
    /// The seed.
    Seed,
    /// The number format of the forward pass.
    Precision,
    /// The kind of device, such as CPU or CUDA. Results on another kind are close, but not equal.
    Device,
}

impl Difference {
    fn label(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::LearningRate => "learning rate",
            Self::Policy => "policy",
            Self::Items => "items",
            Self::Labels => "labels",
            Self::Vocabulary => "vocabulary",
            Self::Split => "split",
            Self::Batches => "batches",
            Self::ItemTransforms => "item transforms",
            Self::BatchTransforms => "batch transforms",
            Self::Model => "model",
            Self::Optimizer => "optimizer",
            Self::Loss => "loss",
            Self::Metrics => "metrics",
            Self::Callbacks => "callbacks",
            Self::Seed => "seed",
            Self::Precision => "precision",
            Self::Device => "device",
        }
    }

    /// Returns true if the policy of a fit decides it; a plain `resume` does not know the policy.
    fn of_policy(self) -> bool {
        matches!(self, Self::Epochs | Self::LearningRate | Self::Policy)
    }
}

/// Identifies a run by a text for each property in which programs can differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fingerprint(Vec<(Difference, String)>);

/// A property that differs, with its old and new value.
#[derive(Debug)]
pub(super) struct Differs {
    pub(super) what: Difference,
    then: String,
    now: String,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, then, now } = self;
        let variant = format!("Difference::{what:?}");
        write!(f, "{}: was {then}, is {now} ({variant})", what.label())
    }
}

impl Fingerprint {
    /// Creates a fingerprint from these texts.
    pub(super) fn new(all: Vec<(Difference, String)>) -> Self {
        Self(all)
    }

    /// Returns the differences from the program that resumes.
    pub(super) fn differences(&self, now: &Self) -> Vec<Differs> {
        let of = |all: &Self, what: Difference| {
            all.0.iter().find(|(w, _)| *w == what).map(|(_, text)| text.clone())
        };
        let mut found = vec![];
        for (what, then) in &self.0 {
            match of(now, *what) {
                Some(now) if now != *then => {
                    found.push(Differs { what: *what, then: then.clone(), now });
                }
                None if !what.of_policy() => {
                    let now = "unknown".to_owned();
                    found.push(Differs { what: *what, then: then.clone(), now });
                }
                _ => {}
            }
        }
        found
    }
}

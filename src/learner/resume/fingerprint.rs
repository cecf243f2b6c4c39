//! What must be the same when a run is resumed.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Something in which a program can differ from the one that wrote a checkpoint. A difference is refused
/// unless it is named with [`Checkpoint::allow`](super::Checkpoint::allow).
///
/// The number of workers is not in the list: it never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Difference {
    /// The number of epochs. If it is allowed, the rest of the run follows the new policy.
    Epochs,
    /// The learning rates. If it is allowed, the rest of the run follows the new policy.
    LearningRate,
    /// Anything else that the policy sets: weight decay, the shape of the schedule, the group from which
    /// parameters are trained. If it is allowed, the rest of the run follows the new policy.
    Policy,
    /// The names of the items, relative to the folder that all of them are in, and their number.
    Items,
    /// The labels. For a [`Dataset`](crate::data::Dataset) of your own, up to 64 of them are compared.
    Labels,
    /// The classes and their order.
    Vocabulary,
    /// Which items are for training and which for validation.
    Split,
    /// Batch sizes, shuffling, the handling of a last partial batch, and weights for drawing.
    Batches,
    /// The item transforms with their options. Of closures, only the presence is compared.
    ItemTransforms,
    /// The batch transforms with their options. Of closures, only the presence is compared.
    BatchTransforms,
    /// The architecture, and the names, shapes and groups of the parameters.
    Model,
    /// The optimizer with its options.
    Optimizer,
    /// The loss with its options.
    Loss,
    /// The columns of the table of epochs.
    Metrics,
    /// The callbacks that change the training, with their options:
    /// see [`Callback::fingerprint`](crate::learner::Callback::fingerprint).
    Callbacks,
    /// The seed.
    Seed,
    /// The number format of the forward pass.
    Precision,
    /// CPU, CUDA or another kind of device. Results on another device are close, not equal.
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

    /// Whether it is decided by the policy of a fit, which a plain `resume` does not know.
    fn of_policy(self) -> bool {
        matches!(self, Self::Epochs | Self::LearningRate | Self::Policy)
    }
}

/// What identifies a run: a text for each thing in which programs can differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fingerprint(Vec<(Difference, String)>);

/// A thing that differs, then and now.
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
    /// Of these texts.
    pub(super) fn new(all: Vec<(Difference, String)>) -> Self {
        Self(all)
    }

    /// What differs between this one and that of the program that resumes.
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

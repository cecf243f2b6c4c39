//! Samples, targets, batches, and the task of a data set.

use crate::image::Image;
use std::sync::Arc;
use tch::Tensor;

/// Training or validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Split {
    /// Random crops, augmentation, shuffled order.
    Train,
    /// Center crops, no augmentation, fixed order. Prediction is like this too.
    Valid,
}

/// One image with its target, on its way through the item transforms.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The pixels.
    pub image: Image,
    /// What a model is to predict for them.
    pub target: Target,
}

/// The target of one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// No target: an item to predict.
    None,
    /// A category, as a position in the vocabulary.
    Category(usize),
    /// Any number of categories, as positions in the vocabulary.
    Categories(Vec<usize>),
    /// Numbers.
    Values(Vec<f32>),
}

/// The kind of targets of a data set: what a model, a loss and an export need to know.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// One category for each image.
    Category {
        /// The categories, in the order of the model's outputs.
        vocab: Arc<[String]>,
    },
    /// Any number of categories for each image.
    Categories {
        /// The categories, in the order of the model's outputs.
        vocab: Arc<[String]>,
    },
    /// Numbers for each image.
    Values {
        /// The number of values for each image.
        n: usize,
    },
}

impl Task {
    /// The number of outputs that a model needs.
    #[must_use]
    pub fn n_out(&self) -> usize {
        match self {
            Self::Category { vocab } | Self::Categories { vocab } => vocab.len(),
            Self::Values { n } => *n,
        }
    }

    /// The categories; empty where the targets are numbers.
    #[must_use]
    pub fn vocab(&self) -> &[String] {
        match self {
            Self::Category { vocab } | Self::Categories { vocab } => vocab,
            Self::Values { .. } => &[],
        }
    }

    /// Returns a target as text: category names, or numbers, separated by `; `. No target and an
    /// empty set of categories are `none`. A position beyond the vocabulary is given as a number.
    ///
    /// ```
    /// use finetune::sample::{Target, Task};
    ///
    /// let task = Task::Categories { vocab: ["boat".to_owned(), "sea".to_owned()].into() };
    /// assert_eq!(task.words(&Target::Categories(vec![1, 0])), "sea; boat");
    /// assert_eq!(task.words(&Target::Categories(vec![])), "none");
    /// assert_eq!(Task::Values { n: 2 }.words(&Target::Values(vec![0.5, -1.0])), "0.5; -1");
    /// ```
    #[must_use]
    pub fn words(&self, target: &Target) -> String {
        let name = |i: &usize| self.vocab().get(*i).cloned().unwrap_or_else(|| i.to_string());
        match target {
            Target::Category(i) => name(i),
            Target::Categories(all) if !all.is_empty() => {
                all.iter().map(name).collect::<Vec<_>>().join("; ")
            }
            Target::Values(v) => v.iter().map(f32::to_string).collect::<Vec<_>>().join("; "),
            Target::Categories(_) | Target::None => "none".to_owned(),
        }
    }
}

/// A batch on its device.
#[derive(Debug)]
pub struct Batch {
    /// The inputs, N×C×H×W (channels-last in memory where that is faster).
    pub x: Tensor,
    /// The targets: `i64` N for categories, `f32` N×C for several categories, `f32` N×n for values
    /// (N where n is 1). `None` for items without labels.
    pub y: Option<Tensor>,
    /// The positions of the items in their data set, so that a loss can be traced to a file.
    pub items: Vec<usize>,
}

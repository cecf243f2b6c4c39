//! Samples, targets, and the task of a data set.

mod placement;
mod shapes;

pub use {
    placement::Placement,
    shapes::{BBox, Point},
};

use crate::image::Image;
use std::{collections::BTreeSet, sync::Arc};

/// Training or validation. There is no third case, so the enum is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Split {
    /// Random crops, augmentation, shuffled order.
    Train,
    /// Center crops, no augmentation, fixed order. Also used for prediction.
    Valid,
}

/// One image with its target, during the item transforms.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The pixels.
    pub image: Image,
    /// The target to predict.
    pub target: Target,
    placement: Option<Placement>,
}

impl Sample {
    /// Creates a sample from a decoded image and its target.
    #[must_use]
    pub fn new(image: Image, target: Target) -> Self {
        let placement = Some(Placement::whole((image.width(), image.height())));
        Self { image, target, placement }
    }

    /// Returns the position of the image in its original. `None` if a transform has changed the size of the
    /// image without [`set_placement`](Self::set_placement).
    #[must_use]
    pub fn placement(&self) -> Option<&Placement> {
        let size = (self.image.width(), self.image.height());
        self.placement.as_ref().filter(|p| p.size() == size)
    }

    /// Sets the position of the image in its original, after a transform of your own has moved its pixels;
    /// see [`Placement::then`]. `None` if it is unknown.
    pub fn set_placement(&mut self, placement: Option<Placement>) {
        self.placement = placement;
    }
}

/// The target of one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// No target: an item to predict.
    None,
    /// A category, as an index into the vocabulary.
    Category(usize),
    /// Any number of categories, as indices into the vocabulary.
    Categories(Vec<usize>),
    /// Numbers.
    Values(Vec<f32>),
    /// A code for each pixel: an image of one channel, with the size of the input image.
    Mask(Image),
    /// Points in the image.
    Points(Vec<Point>),
    /// Boxes in the image, with their classes.
    Boxes(Vec<BBox>),
}

/// The kind of a data set's targets, with everything that a model, a loss and an export need.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// One category per image.
    Category {
        /// The categories, in the order of the model's outputs.
        vocab: Arc<[String]>,
    },
    /// Any number of categories per image.
    Categories {
        /// The categories, in the order of the model's outputs.
        vocab: Arc<[String]>,
    },
    /// Numbers per image.
    Values {
        /// The number of values per image.
        n: usize,
    },
    /// A code for each pixel.
    Mask {
        /// The names of the codes, in the order of the model's outputs.
        codes: Arc<[String]>,
        /// The value of pixels that losses and metrics ignore, if any.
        ignored: Option<u8>,
    },
    /// Points in each image.
    Points {
        /// The number of points. A model has two outputs for each.
        n: usize,
    },
    /// Any number of boxes in each image, with a class each.
    Boxes {
        /// The classes; empty for boxes without classes.
        vocab: Arc<[String]>,
    },
}

impl Task {
    /// Returns the number of outputs that a model needs; `usize::MAX` for more points than a model can have.
    #[must_use]
    pub fn n_out(&self) -> usize {
        match self {
            Self::Category { vocab } | Self::Categories { vocab } | Self::Boxes { vocab } => {
                vocab.len()
            }
            Self::Mask { codes, .. } => codes.len(),
            Self::Values { n } => *n,
            // A damaged file may contain any number. No model has this many outputs.
            Self::Points { n } => n.saturating_mul(2),
        }
    }

    /// Returns true if targets move with the pixels of the image: masks, points and boxes.
    #[must_use]
    pub fn is_spatial(&self) -> bool {
        matches!(self, Self::Mask { .. } | Self::Points { .. } | Self::Boxes { .. })
    }

    /// Returns the categories; empty if the targets are numbers.
    #[must_use]
    pub fn vocab(&self) -> &[String] {
        match self {
            Self::Category { vocab } | Self::Categories { vocab } | Self::Boxes { vocab } => vocab,
            Self::Mask { codes, .. } => codes,
            Self::Values { .. } | Self::Points { .. } => &[],
        }
    }

    /// Returns a target as text: category names, or numbers, separated by `; `. For masks and boxes, these
    /// are the names of the codes and classes that occur. A missing target and an empty set of categories
    /// are `none`. An index beyond the vocabulary is written as a number.
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
        let names = |all: &mut dyn Iterator<Item = usize>| {
            let all: BTreeSet<usize> = all.collect();
            all.iter().map(name).collect::<Vec<_>>().join("; ")
        };
        match target {
            Target::Category(i) => name(i),
            Target::Categories(all) if !all.is_empty() => {
                all.iter().map(name).collect::<Vec<_>>().join("; ")
            }
            Target::Values(v) => v.iter().map(f32::to_string).collect::<Vec<_>>().join("; "),
            Target::Mask(mask) => names(&mut mask.pixels().iter().map(|&code| code.into())),
            Target::Points(points) => {
                let place = |p: &Point| match p.visible {
                    true => format!("({}, {})", p.x, p.y),
                    false => "hidden".to_owned(),
                };
                points.iter().map(place).collect::<Vec<_>>().join("; ")
            }
            Target::Boxes(boxes) if !boxes.is_empty() => names(&mut boxes.iter().map(|b| b.class)),
            Target::Boxes(_) | Target::Categories(_) | Target::None => "none".to_owned(),
        }
    }
}

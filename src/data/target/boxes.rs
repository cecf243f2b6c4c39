//! Targets of boxes in each image.

use super::category::{Sort, TargetBlock, Vocab, twice, unknown};
use crate::{
    error::{Error, Result},
    sample::{BBox, Target, Task},
};
use std::collections::BTreeSet;

/// A box as a label: left, top, right and bottom in pixels of the decoded image.
pub type Corners = [f32; 4];

/// Any number of boxes in each image: fastai's
/// [`BBoxBlock`](https://docs.fast.ai/vision.data.html#bboxblock). Without a [`BBoxLblBlock`], the boxes
/// have no classes; with one, `get_y` returns the boxes and the names of their classes:
///
/// ```
/// use finetune::data::{BBoxBlock, BBoxLblBlock, TargetBlock};
///
/// let mut block = (BBoxBlock::new(), BBoxLblBlock::new());
/// let label = (vec![[2.0, 3.0, 10.0, 9.0]], vec!["cat".to_owned()]);
/// block.setup(&mut [label].iter())?;
/// assert_eq!(block.task().vocab(), ["#na#", "cat"]);
/// # Ok::<(), finetune::Error>(())
/// ```
///
/// A batch contains `y`, `f32` `[N, M, 4]`, and `labels`, `i64` `[N, M]`, where M is the largest number of
/// boxes of an image of the batch. Boxes are scaled like points and clipped to the image. Images with fewer
/// boxes are padded with zeros of class 0.
#[derive(Debug, Clone, Default)]
pub struct BBoxBlock(());

impl BBoxBlock {
    /// Creates the block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The classes of boxes, by name: fastai's
/// [`BBoxLblBlock`](https://docs.fast.ai/vision.data.html#bboxlblblock). See [`BBoxBlock`].
#[derive(Debug, Clone)]
pub struct BBoxLblBlock {
    given: Option<Vec<String>>,
    add_na: bool,
    vocab: Vocab,
}

impl Default for BBoxLblBlock {
    fn default() -> Self {
        Self { given: None, add_na: true, vocab: Vocab::default() }
    }
}

impl BBoxLblBlock {
    /// Creates the block. Its classes are [`NA`](crate::data::NA) for the padding, followed by those of the
    /// training labels, sorted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the classes, in order. Default: those of the training labels.
    #[must_use]
    pub fn vocab<S: Into<String>>(mut self, vocab: impl IntoIterator<Item = S>) -> Self {
        self.given = Some(vocab.into_iter().map(Into::into).collect());
        self
    }

    /// If true, [`NA`](crate::data::NA) is the first class, so that padding has its own class. Default:
    /// true.
    #[must_use]
    pub fn add_na(mut self, add_na: bool) -> Self {
        self.add_na = add_na;
        self
    }
}

/// Returns boxes with their classes if all of them are valid.
fn boxes(corners: &[Corners], class: impl Fn(usize) -> usize) -> Result<Target> {
    let mut all = Vec::with_capacity(corners.len());
    for (i, &c) in corners.iter().enumerate() {
        let [left, top, right, bottom] = c;
        let finite = c.iter().all(|v| v.is_finite());
        if !finite || right <= left || bottom <= top {
            let what = match finite {
                false => "has a coordinate that is not finite",
                true if right < left || bottom < top => "is inverted",
                true => "is empty",
            };
            let why = format!(
                "box {i}, {c:?}, {what}: left must be below right and top below bottom, in pixels"
            );
            return Err(Error::label(format!("{c:?}"), why));
        }
        all.push(BBox::new(c, class(i)));
    }
    Ok(Target::Boxes(all))
}

fn corners(target: &Target) -> Option<Vec<Corners>> {
    let Target::Boxes(boxes) = target else { return None };
    Some(boxes.iter().map(BBox::corners).collect())
}

impl TargetBlock for BBoxBlock {
    type Label = Vec<Corners>;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &Vec<Corners>>) -> Result<()> {
        Ok(())
    }

    fn encode(&self, label: &Vec<Corners>) -> Result<Target> {
        boxes(label, |_| 0)
    }

    fn decode(&self, target: &Target) -> Option<Vec<Corners>> {
        corners(target)
    }

    fn task(&self) -> Task {
        Task::Boxes { vocab: [].into() }
    }
}

impl TargetBlock for (BBoxBlock, BBoxLblBlock) {
    type Label = (Vec<Corners>, Vec<String>);

    fn setup(&mut self, labels: &mut dyn Iterator<Item = &Self::Label>) -> Result<()> {
        let block = &mut self.1;
        block.vocab = match &block.given {
            Some(given) => twice(given).and_then(|()| {
                Vocab::new(given.iter().map(String::as_str), Sort::Given, block.add_na)
            })?,
            None => {
                let names: BTreeSet<&str> =
                    labels.flat_map(|(_, names)| names).map(String::as_str).collect();
                Vocab::new(names.into_iter(), Sort::CodePoints, block.add_na)?
            }
        };
        if block.vocab.names.is_empty() {
            return Err(Error::config("get_y", "no training item has a box"));
        }
        Ok(())
    }

    fn encode(&self, (corners, names): &Self::Label) -> Result<Target> {
        if corners.len() != names.len() {
            let why = format!("there are {} boxes, but {} classes", corners.len(), names.len());
            return Err(Error::label(format!("{names:?}"), why));
        }
        let positions: Vec<Option<usize>> =
            names.iter().map(|name| self.1.vocab.position(name)).collect();
        let strange: Vec<&String> =
            names.iter().zip(&positions).filter(|(_, p)| p.is_none()).map(|(n, _)| n).collect();
        if !strange.is_empty() {
            return Err(unknown(&strange, self.1.given.is_some(), ""));
        }
        boxes(corners, |i| positions[i].unwrap_or(0))
    }

    fn decode(&self, target: &Target) -> Option<Self::Label> {
        let Target::Boxes(boxes) = target else { return None };
        let names = boxes.iter().map(|b| self.1.vocab.names.get(b.class).cloned());
        Some((corners(target)?, names.collect::<Option<_>>()?))
    }

    fn task(&self) -> Task {
        Task::Boxes { vocab: self.1.vocab.names.clone() }
    }
}

//! Interpretation of predicted masks.

use super::{
    Interpretation,
    kept::{of_any_task, unlabeled},
};
use crate::{
    error::{Error, Result},
    image::Image,
    learner::Predictions,
    sample::{Target, Task},
};
use ndarray::Array2;

/// Interprets predicted masks, pixel by pixel.
///
/// Pixels that the task ignores, and those whose target is not a code, are not counted.
#[derive(Debug, Clone)]
pub struct SegmentationInterpretation {
    all: Interpretation,
    confusion: Array2<u64>,
    item_iou: Vec<f64>,
}

/// The overlap of predicted and true pixels of one code.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CodeOverlap {
    /// The name of the code.
    pub name: String,
    /// The number of pixels with this code.
    pub pixels: u64,
    /// The number of pixels predicted as this code.
    pub predicted: u64,
    /// The number of pixels with this code that are predicted as it.
    pub both: u64,
}

impl CodeOverlap {
    /// Returns the intersection over union; NaN if the code does not occur.
    #[must_use]
    pub fn iou(&self) -> f64 {
        self.both as f64 / (self.pixels + self.predicted - self.both) as f64
    }

    /// Returns twice the intersection divided by the sum of both sizes; NaN if the code does not occur.
    #[must_use]
    pub fn dice(&self) -> f64 {
        2.0 * self.both as f64 / (self.pixels + self.predicted) as f64
    }
}

of_any_task!(SegmentationInterpretation);

impl SegmentationInterpretation {
    /// Interprets existing predictions.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the task is not masks, if a mask is missing, if the parts of the predictions do
    /// not match, if a predicted mask has another size than its target, or if a predicted pixel is not a code.
    pub fn from_predictions(predictions: Predictions) -> Result<Self> {
        let all = Interpretation::from_predictions(predictions)?;
        let p = all.predictions();
        let Task::Mask { codes, ignored } = &p.task else {
            return Err(Error::mismatch("predictions", "the task is not masks"));
        };
        let n = codes.len();
        let mut confusion = Array2::<u64>::zeros((n, n));
        let mut item_iou = vec![];
        for ((&item, is), said) in p.items.iter().zip(&p.targets).zip(&p.decoded) {
            let (Target::Mask(is), Target::Mask(said)) = (is, said) else {
                return Err(unlabeled(item, "a mask"));
            };
            let shape = |mask: &Image| (mask.width(), mask.height(), mask.channels());
            if shape(is) != shape(said) {
                let why = format!(
                    "item {item}: the mask has the size {is:?}, but the predicted one {said:?}"
                );
                return Err(Error::mismatch("predictions", why));
            }
            if let Some(beyond) = said.pixels().iter().find(|code| usize::from(**code) >= n) {
                let why = format!(
                    "item {item}: a pixel is predicted as code {beyond}, but there are {n} codes"
                );
                return Err(Error::mismatch("predictions", why));
            }
            let mut own = Array2::<u64>::zeros((n, n));
            for (&is, &said) in is.pixels().iter().zip(said.pixels()) {
                let (row, column) = (usize::from(is), usize::from(said));
                if *ignored != Some(is) && row < n {
                    own[(row, column)] += 1;
                }
            }
            item_iou.push(mean_iou(&own));
            confusion += &own;
        }
        Ok(Self { all, confusion, item_iou })
    }

    /// Returns the names of the codes.
    #[must_use]
    pub fn codes(&self) -> &[String] {
        self.predictions().task.vocab()
    }

    /// Returns the numbers of pixels by true code (rows) and predicted code (columns).
    #[must_use]
    pub fn confusion_matrix(&self) -> &Array2<u64> {
        &self.confusion
    }

    /// Returns the overlap of each code, in the order of the codes.
    #[must_use]
    pub fn overlaps(&self) -> Vec<CodeOverlap> {
        let one = |(c, name): (usize, &String)| CodeOverlap {
            name: name.clone(),
            pixels: self.confusion.row(c).sum(),
            predicted: self.confusion.column(c).sum(),
            both: self.confusion[(c, c)],
        };
        self.codes().iter().enumerate().map(one).collect()
    }

    /// Returns the mean intersection over union of the codes that occur; NaN without pixels.
    #[must_use]
    pub fn mean_iou(&self) -> f64 {
        mean_iou(&self.confusion)
    }

    /// Returns the fraction of correct pixels; NaN without pixels.
    #[must_use]
    pub fn pixel_accuracy(&self) -> f64 {
        self.confusion.diag().sum() as f64 / self.confusion.sum() as f64
    }

    /// Returns the indices among the predictions of the `k` items with the smallest mean intersection over
    /// union, worst first, with that value. Items without counted pixels come last.
    #[must_use]
    pub fn worst(&self, k: usize) -> Vec<(usize, f64)> {
        let rank = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
        let mut all: Vec<(usize, f64)> = self.item_iou.iter().copied().enumerate().collect();
        all.sort_by(|a, b| rank(a.1).total_cmp(&rank(b.1)));
        all.truncate(k);
        all
    }
}

/// Returns the mean over the codes that occur.
fn mean_iou(confusion: &Array2<u64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for c in 0..confusion.nrows() {
        let both = confusion[(c, c)];
        let union = confusion.row(c).sum() + confusion.column(c).sum() - both;
        if union > 0 {
            sum += both as f64 / union as f64;
            n += 1.0;
        }
    }
    sum / n
}

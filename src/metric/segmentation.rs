//! Metrics of masks. Predictions `[N, C, H, W]`, targets `[N, H, W]`.

use super::confusion::{ConfusionMetric, highest_of_pixels, sums};
use ndarray::{Array2, s};

/// The intersection and the sum of the sizes of both foregrounds: all classes but the first.
fn foreground(m: &Array2<f64>) -> (f64, f64) {
    let (truly, predicted) = sums(m);
    let both = m.slice(s![1.., 1..]).sum();
    (both, truly[1..].iter().chain(&predicted[1..]).sum())
}

/// The mean of a score over the classes that occur.
fn over_classes(m: &Array2<f64>, score: fn(f64, f64) -> f64) -> Option<f64> {
    let (truly, predicted) = sums(m);
    let occur = (0..truly.len()).filter(|&c| truly[c] + predicted[c] > 0.0);
    let scores: Vec<f64> = occur.map(|c| score(m[[c, c]], truly[c] + predicted[c])).collect();
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

fn dice_of(both: f64, sizes: f64) -> f64 {
    2.0 * both / sizes
}

fn jaccard_of(both: f64, sizes: f64) -> f64 {
    both / (sizes - both)
}

/// Twice the intersection of both foregrounds over the sum of their sizes: fastai's `Dice`. `None`
/// if neither has a foreground.
///
/// The foreground is every class but the first. fastai multiplies and adds the numbers of the classes,
/// which is the same for two classes and wrong for more: see [`dice_multi`].
#[must_use]
pub fn dice() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("dice", highest_of_pixels, |m| {
        let (both, sizes) = foreground(m);
        (sizes > 0.0).then(|| dice_of(both, sizes))
    })
}

/// The intersection of both foregrounds over their union: fastai's `JaccardCoeff`. See [`dice`].
#[must_use]
pub fn jaccard_coeff() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("jaccard_coeff", highest_of_pixels, |m| {
        let (both, sizes) = foreground(m);
        (sizes > 0.0).then(|| jaccard_of(both, sizes))
    })
}

/// The mean of [`dice`] of each class that occurs: fastai's `DiceMulti`.
#[must_use]
pub fn dice_multi() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("dice_multi", highest_of_pixels, |m| over_classes(m, dice_of))
}

/// The mean of [`jaccard_coeff`] of each class that occurs: fastai's `JaccardCoeffMulti`.
#[must_use]
pub fn jaccard_coeff_multi() -> ConfusionMetric<impl Fn(&Array2<f64>) -> Option<f64>> {
    ConfusionMetric::new("jaccard_coeff_multi", highest_of_pixels, |m| over_classes(m, jaccard_of))
}

//! Metrics of how well scores rank positives above negatives.

use super::{Average, Better, Metric, OverEpoch, Roc, flat, over_epoch::numbers, targets::Targets};
use crate::{
    error::{Error, Result},
    sample::Task,
};
use tch::{Kind, Tensor};

/// The area under a curve of the scores of positive and negative items.
type Area = fn(&[(f64, bool)]) -> f64;

/// Returns the area under the ROC curve; NaN if only positives or only negatives occur, or a score is NaN.
fn roc_area(scores: &[(f64, bool)]) -> f64 {
    Roc::new(scores.iter().copied()).auc.unwrap_or(f64::NAN)
}

/// Returns the mean of the precisions at each recall; 0 without positives, and NaN if a score is NaN.
fn average_precision(scores: &[(f64, bool)]) -> f64 {
    if scores.iter().any(|s| s.0.is_nan()) {
        return f64::NAN;
    }
    let mut all = scores.to_vec();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let wanted = all.iter().filter(|s| s.1).count();
    let (mut taken, mut found, mut area) = (0, 0, 0.0);
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let own = same.iter().filter(|s| s.1).count();
        taken += same.len();
        found += own;
        area += own as f64 * found as f64 / taken as f64;
    }
    if wanted == 0 { 0.0 } else { area / wanted as f64 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the weighted mean. As in scikit-learn, values without weight are left out, even if they are NaN.
fn weighted(values: &[f64], weights: &[f64]) -> f64 {
    let some = values.iter().zip(weights).filter(|(_, w)| **w != 0.0);
    some.map(|(v, w)| v * w).sum::<f64>() / weights.iter().sum::<f64>()
}

/// Returns the average over the columns of a score of (scores, labels).
fn over_columns(
    rows: &[Vec<(f64, bool)>],
    average: Average,
    area: Area,
    name: &'static str,
) -> Result<f64> {
    let columns = rows.first().map_or(0, Vec::len);
    let column = |c: usize| rows.iter().map(|r| r[c]).collect::<Vec<_>>();
    let each = || (0..columns).map(|c| area(&column(c))).collect::<Vec<_>>();
    let so = |c: usize| column(c).iter().filter(|s| s.1).count() as f64;
    Ok(match average {
        Average::Macro => mean(&each()),
        // A category without true items has no weight, but its scores have no rank either.
        Average::Weighted if rows.iter().flatten().any(|s| s.0.is_nan()) => f64::NAN,
        Average::Weighted => weighted(&each(), &(0..columns).map(so).collect::<Vec<_>>()),
        Average::Micro => area(&rows.concat()),
        Average::Samples => mean(&rows.iter().map(|r| area(r)).collect::<Vec<_>>()),
        Average::Binary => {
            return Err(Error::config(name, "`Average::Binary` is for one of two categories"));
        }
    })
}

/// Returns the scores and the binary labels of each item.
fn pairs(scores: &Tensor, so: &Tensor) -> Result<Vec<Vec<(f64, bool)>>> {
    let columns = scores.size().last().copied().unwrap_or(1).max(1) as usize;
    let (scores, so) = flat(scores, so)?;
    let all: Vec<(f64, bool)> =
        numbers(&scores)?.into_iter().zip(numbers(&so)?.into_iter().map(|v| v != 0.0)).collect();
    Ok(all.chunks(columns).map(<[_]>::to_vec).collect())
}

/// The comparison of classes in [`roc_auc`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultiClass {
    /// Each class against all others together.
    OneVsRest,
    /// Each class against each other class.
    OneVsOne,
}

/// A score of all predictions and targets.
type OfAll = Box<dyn Fn(&Tensor, &Tensor) -> Result<f64> + Send>;

/// The area under a curve of all scores of an epoch; NaN if a score is NaN. Returned by [`roc_auc`] and
/// similar functions.
#[derive(derive_more::Debug)]
pub struct Ranking {
    #[debug(skip)]
    of_all: OverEpoch<OfAll>,
    /// The error of an invalid option.
    invalid: Option<String>,
}

impl Ranking {
    fn new(
        name: &'static str,
        targets: Targets,
        f: impl Fn(&Tensor, &Tensor) -> Result<f64> + Send + 'static,
    ) -> Self {
        let f: OfAll = Box::new(f);
        let of_all = OverEpoch::new(name, f).better_is(Better::Higher).wants(name, targets);
        Self { of_all, invalid: None }
    }

    fn invalid_if(mut self, invalid: bool, why: impl Into<String>) -> Self {
        self.invalid = invalid.then(|| why.into());
        self
    }
}

impl Metric for Ranking {
    fn name(&self) -> &str {
        self.of_all.name()
    }
    fn reset(&mut self) {
        self.of_all.reset();
    }
    fn update(&mut self, pred: &Tensor, y: &Tensor) -> Result<()> {
        let items = |t: &Tensor| t.size().first().copied();
        if items(pred) != items(y) {
            let why = format!(
                "predictions of shape {:?} and targets of shape {:?} have different numbers of items",
                pred.size(),
                y.size()
            );
            return Err(Error::mismatch("metric", why));
        }
        self.of_all.update(pred, y)
    }
    fn value(&self) -> Result<Option<f64>> {
        self.of_all.value()
    }
    fn better(&self) -> Option<Better> {
        self.of_all.better()
    }
    fn check(&self, task: &Task) -> Result<()> {
        match &self.invalid {
            Some(why) => Err(Error::config("metric", format!("`{}`: {why}", self.name()))),
            None => self.of_all.check(task),
        }
    }
}

/// Returns the area under the receiver operating characteristic for more than two classes: fastai's
/// `RocAuc`, where the defaults are [`Average::Macro`] and [`MultiClass::OneVsRest`]. Fails if a class does
/// not occur among the targets, and for two classes, as in fastai; see [`roc_auc_binary`].
#[must_use]
pub fn roc_auc(average: Average, multi_class: MultiClass) -> Ranking {
    let averages = match multi_class {
        MultiClass::OneVsRest => average != Average::Binary,
        MultiClass::OneVsOne => matches!(average, Average::Macro | Average::Weighted),
    };
    let all = Ranking::new("roc_auc_score", Targets::ThreeCategories, move |pred, y| {
        let wrong = |why: String| Err(Error::config("roc_auc", why));
        let classes = pred.size().last().copied().unwrap_or(0);
        if classes < 3 {
            return wrong(format!(
                "there are {classes} outputs: use `roc_auc_binary` for two classes"
            ));
        }
        let so = y.f_to_kind(Kind::Int64)?.f_one_hot(classes)?;
        let times = so.f_sum_dim_intlist(0, false, Kind::Int64)?;
        if bool::try_from(times.f_eq(0)?.f_any()?)? {
            return wrong("a class does not occur among the targets".into());
        }
        let rows = pairs(&pred.f_softmax(-1, Kind::Double)?, &so)?;
        match multi_class {
            MultiClass::OneVsRest => over_columns(&rows, average, roc_area, "roc_auc"),
            MultiClass::OneVsOne => one_vs_one(&rows, average),
        }
    });
    all.invalid_if(!averages, format!("{average:?} is not supported by {multi_class:?}"))
}

/// Returns the mean over the pairs of classes of the area that separates one from the other.
fn one_vs_one(rows: &[Vec<(f64, bool)>], average: Average) -> Result<f64> {
    let classes = rows.first().map_or(0, Vec::len);
    let (mut areas, mut shares) = (vec![], vec![]);
    for a in 0..classes {
        for b in a + 1..classes {
            let both: Vec<_> = rows.iter().filter(|r| r[a].1 || r[b].1).collect();
            let of = |c: usize| roc_area(&both.iter().map(|r| r[c]).collect::<Vec<_>>());
            areas.push(f64::midpoint(of(a), of(b)));
            shares.push(both.len() as f64);
        }
    }
    match average {
        Average::Macro => Ok(mean(&areas)),
        Average::Weighted => Ok(weighted(&areas, &shares)),
        other => {
            let why = format!("{other:?} is not supported by `MultiClass::OneVsOne`");
            Err(Error::config("roc_auc", why))
        }
    }
}

/// Returns the score of the second of two classes, and the binary label.
fn second_of_two(pred: &Tensor, y: &Tensor) -> Result<Vec<(f64, bool)>> {
    if pred.size().last() != Some(&2) {
        let why = format!("predictions of shape {:?} are not of two classes", pred.size());
        return Err(Error::config("binary score", why));
    }
    let probs = pred.f_softmax(-1, Kind::Double)?.f_select(-1, 1)?;
    Ok(pairs(&probs.f_reshape([-1, 1])?, y)?.concat())
}

/// Returns the area under the receiver operating characteristic for two classes: fastai's `RocAucBinary`.
/// With `max_fpr`, up to that false-positive rate, scaled so that chance is 0.5 ([`Roc::partial_auc`]). NaN
/// if only one class occurs.
#[must_use]
pub fn roc_auc_binary(max_fpr: Option<f64>) -> Ranking {
    let invalid = max_fpr.is_some_and(|most| !(most > 0.0 && most <= 1.0));
    let all = Ranking::new("roc_auc_score", Targets::TwoCategories, move |pred, y| {
        let scores = second_of_two(pred, y)?;
        Ok(match max_fpr {
            None => roc_area(&scores),
            Some(most) => Roc::new(scores.into_iter()).partial_auc(most)?.unwrap_or(f64::NAN),
        })
    });
    let most = max_fpr.unwrap_or_default();
    all.invalid_if(invalid, format!("`max_fpr` is {most}; it must be above 0 and at most 1"))
}

/// Returns the area under the receiver operating characteristic for several categories per item: fastai's
/// `RocAucMulti`, where the default is [`Average::Macro`]. A category that no item or every item has makes the
/// macro average NaN; [`Average::Weighted`] leaves out categories that no item has.
#[must_use]
pub fn roc_auc_multi(average: Average) -> Ranking {
    multi("roc_auc_score", average, roc_area)
}

/// Returns the mean of the precisions at each recall, for two classes: fastai's `APScoreBinary`.
#[must_use]
pub fn ap_score_binary() -> Ranking {
    Ranking::new("average_precision_score", Targets::TwoCategories, |pred, y| {
        Ok(average_precision(&second_of_two(pred, y)?))
    })
}

/// Returns the mean of the precisions at each recall, for several categories per item: fastai's
/// `APScoreMulti`, where the default is [`Average::Macro`].
#[must_use]
pub fn ap_score_multi(average: Average) -> Ranking {
    multi("average_precision_score", average, average_precision)
}

fn multi(name: &'static str, average: Average, area: Area) -> Ranking {
    let all = Ranking::new(name, Targets::Categories, move |pred, y| {
        if pred.size() != y.size() {
            let why =
                format!("predictions have the shape {:?}, but targets {:?}", pred.size(), y.size());
            return Err(Error::config(name, why));
        }
        over_columns(&pairs(&pred.f_sigmoid()?, y)?, average, area, name)
    });
    all.invalid_if(average == Average::Binary, "`Average::Binary` is for one of two categories")
}

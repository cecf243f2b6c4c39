//! Draws items by weight, for unbalanced classes.

use crate::{
    data::{DataLoader, DataLoaders},
    error::{Error, Result},
    sample::Target,
};

impl DataLoader {
    /// Returns a loader that draws the same number of items with replacement, with probabilities
    /// proportional to the weights of [`items`](Self::items). Repeated items are transformed differently.
    /// fastai's [`WeightedDL`](https://docs.fast.ai/callback.data.html#weighteddl).
    ///
    /// # Errors
    /// [`Error::Config`] if the number of weights differs from the number of items, a weight is negative or
    /// NaN, all weights are 0, or the loader does not shuffle.
    pub fn weighted(&self, weights: &[f64]) -> Result<Self> {
        let invalid = |why: String| Err(Error::config("weights", why));
        if weights.len() != self.len() {
            return invalid(format!(
                "there are {} weights, but {} items",
                weights.len(),
                self.len()
            ));
        }
        if let Some(w) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
            return invalid(format!(
                "{w} is not a valid weight; weights must be finite and not negative"
            ));
        }
        if !self.settings().shuffle {
            let why = "the loader uses all items in order: set `shuffle(true)` to draw by weight";
            return invalid(why.to_owned());
        }
        let mut sum = 0.0;
        let sums: Vec<f64> = weights
            .iter()
            .map(|w| {
                sum += w;
                sum
            })
            .collect();
        if !(sum > 0.0 && sum.is_finite()) {
            return invalid(format!("their sum is {sum}; it must be finite and positive"));
        }
        Ok(self.with_weights(sums.into()))
    }
}

impl DataLoaders {
    /// Returns loaders with training items drawn by weight, in the order of [`items`](DataLoader::items);
    /// see [`DataLoader::weighted`].
    ///
    /// # Errors
    /// As [`DataLoader::weighted`].
    pub fn weighted(&self, weights: &[f64]) -> Result<Self> {
        let train = self.train().weighted(weights)?;
        Ok(self.with_train(train))
    }

    /// Returns loaders with training items drawn so that all categories are equally likely: the weight of
    /// an item is the reciprocal of the number of training items of its category. For items of several
    /// categories, the rarest one decides; items without a category have the weight of the most frequent
    /// one.
    ///
    /// # Errors
    /// [`Error::Config`] if the targets are not categories of the task, and errors of a data set of your own.
    ///
    /// ```no_run
    /// # fn f(dls: finetune::data::DataLoaders) -> finetune::Result<()> {
    /// let dls = dls.balanced()?;
    /// # Ok(()) }
    /// ```
    pub fn balanced(&self) -> Result<Self> {
        let train = self.train();
        let mut counts = vec![0usize; self.task().vocab().len()];
        let classes = counts.len();
        let categories = |item: &usize| {
            let found = match train.target(*item)? {
                Target::Category(c) => vec![c],
                Target::Categories(found) => found,
                other => {
                    let why = format!("{other:?} of {} is not a category", self.name(*item));
                    return Err(Error::config("balanced", why));
                }
            };
            if let Some(c) = found.iter().find(|c| **c >= classes) {
                let why = format!(
                    "{} has the category {c}, but there are only {classes}",
                    self.name(*item)
                );
                return Err(Error::config("balanced", why));
            }
            Ok(found)
        };
        let subset = train.items().iter().map(categories).collect::<Result<Vec<_>>>()?;
        for &c in subset.iter().flatten() {
            counts[c] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let rarest = |found: &Vec<usize>| found.iter().map(|&c| counts[c]).min().unwrap_or(most);
        let weights: Vec<f64> = subset.iter().map(|f| 1.0 / rarest(f) as f64).collect();
        self.weighted(&weights)
    }
}

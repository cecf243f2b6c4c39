//! The targets that a metric is defined for.

use crate::{
    error::{Error, Result},
    sample::Task,
};

/// The targets that a metric is defined for, as far as a [`Task`] determines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Targets {
    /// Any targets: nothing is checked.
    Any,
    /// One category per item.
    Category,
    /// One of two categories per item.
    TwoCategories,
    /// One of three or more categories per item.
    ThreeCategories,
    /// One category per item, out of at least this number.
    CategoryOf(i64),
    /// Any number of categories per item.
    Categories,
    /// Numbers.
    Values,
    /// Masks.
    Masks,
}

impl Targets {
    /// Checks that the metric `name` is defined for the targets of `task`.
    pub(super) fn check(self, name: &'static str, task: &Task) -> Result<()> {
        let wrong = |why: String| Err(Error::unsupported(name, why));
        let classes = task.vocab().len();
        if self == Self::Any {
            return Ok(());
        }
        if self == Self::Masks {
            return match task {
                Task::Mask { .. } => Ok(()),
                _ => wrong("is for masks, but the targets are not masks".into()),
            };
        }
        match (task, self) {
            (Task::Category { .. }, Self::Categories) => wrong(
                "is for several categories per item, but the targets have one category per item".into(),
            ),
            (Task::Category { .. }, Self::Values) => {
                wrong("is for numbers, but the targets are categories".into())
            }
            (Task::Category { .. }, Self::TwoCategories) if classes != 2 => {
                wrong(format!("is for two categories, but there are {classes}"))
            }
            (Task::Category { .. }, Self::ThreeCategories) if classes < 3 => wrong(format!(
                "is for three or more categories, but there are {classes}: use `roc_auc_binary`"
            )),
            (Task::Category { .. }, Self::CategoryOf(k)) if !(1..=classes as i64).contains(&k) => {
                Err(Error::config(name, format!("`k` is {k}; it must be between 1 and {classes}")))
            }
            (Task::Values { .. }, with) if with != Self::Values => {
                wrong("is for categories, but the targets are numbers".into())
            }
            // Probabilities of categories are numbers too.
            (Task::Categories { .. }, with)
                if ![Self::Categories, Self::Values].contains(&with) =>
            {
                wrong(
                    "is for one category per item, but the targets have several: use the metric whose \
                     name ends in `_multi`"
                        .into(),
                )
            }
            _ => Ok(()),
        }
    }
}

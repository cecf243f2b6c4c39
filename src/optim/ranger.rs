//! RAdam with lookahead.

use super::{Optimizer, RAdam};
use crate::{error::Result, model::Param};

/// Returns [`RAdam`] with lookahead: fastai's `ranger`, with its defaults (`k` 6, `alpha` 0.5, `mom` 0.95,
/// `wd` 0.01, `eps` 1e-6).
///
/// ```no_run
/// # fn with(learn: finetune::learner::Learner) -> finetune::Result<()> {
/// let learn = learn.opt_func(finetune::optim::ranger)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Optimizer::new`].
pub fn ranger(params: &[Param]) -> Result<Optimizer> {
    let rule = RAdam::new().mom(0.95).wd(0.01).eps(1e-6);
    Optimizer::new(params, rule)?.lookahead(6, 0.5)
}

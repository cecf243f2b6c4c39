//! The same seed results in the same run, bit for bit, also if it is stopped and resumed.

use crate::{alone, pets::learner};
use finetune::prelude::*;

#[test]
fn two_runs_and_a_resumed_one_end_with_the_same_weights() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let weights = |learn: &Learner| {
        let all = learn.model().state_dict();
        let sums = all.iter().map(|(n, w)| (n.clone(), w.to_kind(tch::Kind::Double).sum(None)));
        sums.map(|(n, s)| (n, f64::try_from(s).unwrap().to_bits())).collect::<Vec<_>>()
    };
    let whole = OneCycle::new(2).lr(1e-3);
    let mut first = learner()?;
    first.fit_with(&whole, &mut [])?;
    let mut second = learner()?;
    second.fit_with(&whole, &mut [])?;
    assert_eq!(weights(&first), weights(&second), "the same seed, the same run");

    // Stop after one epoch, and resume in another learner: the results are equal.
    #[derive(Debug)]
    struct StopAfterOne;
    impl Callback for StopAfterOne {
        fn after_epoch(&mut self, _: &mut Training) -> Step {
            Scope::Fit.cancel()
        }
    }
    let mut stopped = learner()?.model_dir(folder.path());
    stopped.fit_with(&whole, &mut [&mut StopAfterOne])?;
    stopped.save("half")?;
    let mut resumed = learner()?.model_dir(folder.path());
    resumed.load("half")?;
    resumed.fit_with(&whole.clone().start_epoch(1), &mut [])?;
    assert_eq!(weights(&first), weights(&resumed), "a resumed run, the same end");
    Ok(())
}

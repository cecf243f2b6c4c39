//! Figures of a training: losses, schedules, metrics.

use super::{Chart, Figure};
use crate::{
    error::{Error, Result},
    learner::{Defaults, History, Policy},
    optim::{Hyper, Hypers},
};

/// The number of initial steps that a loss curve omits, as in fastai: their losses are so high that the
/// rest would look flat.
const SKIPPED: usize = 5;

/// A hyperparameter, its label, and the function that returns it.
type Named = (Hyper, &'static str, fn(&Hypers) -> f64);

const HYPERS: [Named; 5] = [
    (Hyper::Lr, "learning rate", |h| h.lr),
    (Hyper::Mom, "momentum", |h| h.mom),
    (Hyper::SqrMom, "momentum of squares", |h| h.sqr_mom),
    (Hyper::Eps, "epsilon", |h| h.eps),
    (Hyper::Wd, "weight decay", |h| h.wd),
];

/// Draws one line per parameter group, or a single line if all are equal.
fn by_group(chart: Chart, groups: Vec<Vec<(f64, f64)>>) -> Chart {
    let same = groups.windows(2).all(|pair| pair[0] == pair[1]);
    let kept = if same { 1 } else { groups.len() };
    groups.into_iter().take(kept).enumerate().fold(chart, |chart, (i, points)| {
        let name = if same { String::new() } else { format!("group {}", i + 1) };
        chart.line(name, points)
    })
}

/// Draws the schedules of a policy for `groups` parameter groups over the progress of the fit,
/// without training.
///
/// ```
/// use finetune::{learner::OneCycle, show::plot_policy};
/// let figure = plot_policy(&OneCycle::new(3).lr(1e-5..=1e-3), 3)?;
/// assert_eq!(figure.dimensions(), (1120, 400));
/// # Ok::<(), finetune::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] for an invalid option of the policy, and if it changes no hyperparameter.
pub fn plot_policy(policy: &dyn Policy, groups: usize) -> Result<Figure> {
    let course = policy.course(groups, &Defaults::default())?;
    if course.schedules.is_empty() {
        return Err(Error::config("policy", "it has no schedules: every value is constant"));
    }
    let charts = course.schedules.iter().map(|(hyper, each)| {
        let line = |s: &crate::optim::Schedule| {
            (0..=400).map(|i| f64::from(i) / 400.0).map(|x| (x, s.at(x))).collect()
        };
        let known = HYPERS.iter().find(|(h, ..)| h == hyper);
        let name = known.map_or_else(|| hyper.to_string(), |(_, name, _)| (*name).to_owned());
        by_group(Chart::new(name).x("fraction of the fit"), each.iter().map(line).collect())
    });
    Ok(Figure::charts(charts.collect(), 2))
}

impl History {
    /// Draws the smoothed training loss of each step and the validation loss of each epoch. As in
    /// [fastai](https://docs.fast.ai/learner.html#recorder.plot_loss), it starts at the sixth step
    /// if there are more than 20.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing was recorded.
    pub fn plot_loss(&self) -> Result<Figure> {
        self.recorded(self.losses.len())?;
        let first = if self.losses.len() > 4 * SKIPPED { SKIPPED } else { 0 };
        let train = self.losses.iter().enumerate().skip(first).map(|(i, l)| ((i + 1) as f64, *l));
        let valid = self.column("valid_loss");
        let valid = self.iters.iter().zip(valid).filter_map(|(i, l)| Some((*i as f64, l?)));
        let chart = Chart::new("Loss").x("step").y("loss").whole_x().line("train", train);
        let valid: Vec<_> = valid.collect();
        let chart = if valid.is_empty() { chart } else { chart.line_with_dots("valid", valid) };
        Ok(chart.figure())
    }

    /// Draws the learning rate, the momentum and every other hyperparameter of the optimizer at each step,
    /// one chart each, with a line for each parameter group that differs: fastai's
    /// [`plot_sched`](https://docs.fast.ai/callback.schedule.html#recorder.plot_sched), which shows only
    /// the last group and scheduled hyperparameters. Hyperparameters that are always 0 are omitted, except
    /// for the first two.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing was recorded.
    pub fn plot_sched(&self) -> Result<Figure> {
        self.recorded(self.hypers.len())?;
        let charts = HYPERS.into_iter().filter_map(|(hyper, name, value)| {
            let groups = self.hypers.iter().map(Vec::len).max().unwrap_or(0);
            let of = |group: usize| {
                self.hypers.iter().map(move |h| h.get(group).map_or(f64::NAN, value))
            };
            let used = (0..groups).any(|g| of(g).any(|v| v != 0.0));
            let always = matches!(hyper, Hyper::Lr | Hyper::Mom);
            let steps = |g: usize| of(g).enumerate().map(|(i, v)| ((i + 1) as f64, v)).collect();
            let lines = (0..groups).map(steps).collect();
            (used || always).then(|| by_group(Chart::new(name).x("step").whole_x(), lines))
        });
        Ok(Figure::charts(charts.collect(), 2))
    }

    /// Draws the losses and each metric by epoch, one chart each. Values of both splits share a
    /// chart.
    ///
    /// # Errors
    /// [`Error::Config`] if no epoch was recorded.
    pub fn plot_metrics(&self) -> Result<Figure> {
        self.recorded(self.rows.len())?;
        // `train_accuracy` and `valid_accuracy` are the same metric.
        let kind = |name: &str| {
            let of = |p: &str| {
                Some((name.strip_prefix(p)?.to_owned(), p.trim_end_matches('_').to_owned()))
            };
            of("train_").or_else(|| of("valid_")).unwrap_or((name.to_owned(), "valid".into()))
        };
        let mut charts: Vec<(String, Chart)> = vec![];
        for column in &self.names {
            let (metric, split) = kind(column);
            let values = self.rows.iter().zip(self.column(column));
            let points: Vec<_> =
                values.filter_map(|(row, v)| Some((row.epoch as f64, v?))).collect();
            let at = charts.iter().position(|(m, _)| *m == metric).unwrap_or_else(|| {
                let chart = Chart::new(&*metric).x("epoch").whole_x();
                charts.push((metric.clone(), chart));
                charts.len() - 1
            });
            let (metric, chart) = charts.swap_remove(at);
            charts.push((metric, chart.line_with_dots(split, points)));
            let last = charts.len() - 1;
            charts.swap(at, last);
        }
        Ok(Figure::charts(charts.into_iter().map(|(_, chart)| chart).collect(), 2))
    }

    fn recorded(&self, values: usize) -> Result<()> {
        if values == 0 {
            return Err(Error::config("recorder", "nothing was recorded: train first"));
        }
        Ok(())
    }
}

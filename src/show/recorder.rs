//! Pictures of a training: losses, schedules, metrics.

use super::{Chart, Figure};
use crate::{
    error::{Error, Result},
    learner::History,
};

/// Where a curve begins: the first losses of a training are so high that the rest would be a flat
/// line. fastai leaves out as many.
const SKIPPED: usize = 5;

impl History {
    /// The smoothed training loss of each step and the validation loss of each epoch. As
    /// [fastai's](https://docs.fast.ai/learner.html#recorder.plot_loss), it begins at the sixth step
    /// where there are more than 20.
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

    /// The learning rate and the momentum at each step, as
    /// [fastai's](https://docs.fast.ai/callback.schedule.html#recorder.plot_sched) `plot_sched`. With
    /// several groups of parameters it is those of the last, the head.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing was recorded.
    pub fn plot_sched(&self) -> Result<Figure> {
        self.recorded(self.lrs.len())?;
        let chart = |name: &str, values: &[f64]| {
            let points: Vec<_> =
                values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect();
            Chart::new(name).x("step").y("").whole_x().line("", points)
        };
        let mut charts = vec![chart("learning rate", &self.lrs)];
        if !self.moms.is_empty() {
            charts.push(chart("momentum", &self.moms));
        }
        Ok(Figure::charts(charts, 2))
    }

    /// The losses and each metric by epoch, a chart each. What was measured on both splits shares a
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

use crate::{
    error::{Error, Result},
    learner::{Callback, Scope, Step, Training, order},
    optim::TensorList,
};
use serde_json::json;
use tch::Tensor;

/// The key of the note and the tensors in a checkpoint.
const OWNER: &str = "Ema";

/// Keeps an exponential moving average (EMA) of the weights, validates with it, and ends the fit with it:
/// timm's [`ModelEmaV3`](https://huggingface.co/docs/timm/reference/training#exponential-moving-average).
///
/// - After each step of the optimizer, the average moves towards the weights:
///   `average = decay · average + (1 - decay) · weights`. Running statistics of normalizations are averaged
///   too. The first step copies the weights. A cancelled step, such as one with infinite gradients in 16-bit
///   training, is not averaged. With [`GradientAccumulation`](super::GradientAccumulation), there is one
///   update for each step, not for each batch.
/// - Validation uses the average, so that metrics, [`SaveBest`](super::SaveBest) and
///   [`EarlyStopping`](super::EarlyStopping) are based on it. Callbacks see the average in the model from
///   `before_validate` to `after_epoch`, and the trained weights otherwise.
/// - At the end of a fit, even if it failed, the average replaces the weights: `export`, `save` and
///   `predict` use it, and the next fit starts from it. Each stage of `fine_tune` has its own average.
/// - Checkpoints contain both, and a resumed fit ends with bitwise identical weights.
///
/// With the warm-up, the average follows the weights closely at first:
/// `decay = 1 - (1 + step / gamma)^-power`, up to [`decay`](Self::decay). It is on by default, unlike in
/// timm, because a fit of a few thousand steps is too short for a decay of 0.9999 from the start.
///
/// It costs the memory of one more copy of the weights. A fit can have only one [`Ema`].
///
/// ```
/// use finetune::callback::Ema;
///
/// let ema = Ema::new().decay(0.999);
/// assert_eq!(ema.decay_at(1), 0.0); // the first step copies the weights
/// assert!((ema.decay_at(2) - 0.37).abs() < 0.001);
/// assert!((ema.decay_at(1_001) - 0.99).abs() < 0.001);
/// assert_eq!(ema.decay_at(100_000), 0.999);
/// ```
///
/// ```no_run
/// # fn f(mut learn: finetune::learner::Learner) -> finetune::Result<()> {
/// use finetune::{callback::Ema, learner::WarmupCosine};
///
/// learn.fit_with(&WarmupCosine::new(20).lr(5e-4), &mut [&mut Ema::new()])?;
/// learn.export("averaged.safetensors")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    min_decay: f64,
    warmup: bool,
    warmup_gamma: f64,
    warmup_power: f64,
    update_after_step: u64,
    average_buffers: bool,
    validate: bool,
    /// The number of steps that were averaged in this fit.
    steps: u64,
    /// True if the step of this batch was cancelled.
    cancelled: bool,
    kept: Option<Kept>,
}

/// The average, or the trained weights while the average is in the model.
#[derive(Debug)]
struct Kept {
    /// All tensors of the model by name, in the order of its `state_dict`.
    all: Vec<(String, Tensor)>,
    /// The tensors of `all` that are averaged.
    averages: TensorList,
    /// The tensors of the model that correspond to `averages`.
    weights: TensorList,
    /// The other tensors of `all`, which are copied from the model.
    copies: TensorList,
    /// The tensors of the model that correspond to `copies`.
    originals: TensorList,
    /// True if the average is in the model.
    installed: bool,
}

impl Kept {
    fn new(t: &Training, all: Vec<(String, Tensor)>, average_buffers: bool) -> Result<Self> {
        let own = t.model.state_dict();
        let params = t.model.params();
        let averaged = |(name, tensor): &(String, Tensor)| {
            let is_param = || params.iter().any(|p| p.name == *name);
            tensor.is_floating_point() && (average_buffers || is_param())
        };
        let (mut averages, mut weights, mut copies, mut originals) =
            (vec![], vec![], vec![], vec![]);
        for (average, own) in all.iter().zip(&own) {
            let (to, from) = if averaged(own) {
                (&mut averages, &mut weights)
            } else {
                (&mut copies, &mut originals)
            };
            to.push(average.1.shallow_clone());
            from.push(own.1.shallow_clone());
        }
        let list = |tensors: &[Tensor]| TensorList::new(tensors);
        Ok(Self {
            averages: list(&averages)?,
            weights: list(&weights)?,
            copies: list(&copies)?,
            originals: list(&originals)?,
            all,
            installed: false,
        })
    }

    fn update(&self, decay: f64) -> Result<()> {
        self.averages.lerp(&self.weights, 1.0 - decay)?;
        self.copies.copy_from(&self.originals)
    }

    /// Exchanges the average and the weights, tensor by tensor, so that no third copy of the model is needed.
    fn exchange(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (averages, weights) in
            [(&self.averages, &self.weights), (&self.copies, &self.originals)]
        {
            for i in 0..averages.len() {
                let (mut average, mut weight) = (averages.get(i)?, weights.get(i)?);
                let trained = weight.f_detach_copy()?;
                weight.f_copy_(&average)?;
                average.f_copy_(&trained)?;
            }
        }
        self.installed = !self.installed;
        Ok(())
    }
}

impl Ema {
    /// Creates a callback with a decay of 0.9999, timm's default, and a warm-up.
    #[must_use]
    pub fn new() -> Self {
        Self {
            decay: 0.9999,
            min_decay: 0.0,
            warmup: true,
            warmup_gamma: 1.0,
            warmup_power: 2.0 / 3.0,
            update_after_step: 0,
            average_buffers: true,
            validate: true,
            steps: 0,
            cancelled: false,
            kept: None,
        }
    }

    /// Sets the decay, the fraction of the average that each step keeps, from 0 to 1. With a warm-up, it is the
    /// maximum decay. Default: 0.9999.
    #[must_use]
    pub fn decay(mut self, decay: f64) -> Self {
        self.decay = decay;
        self
    }

    /// If true, the decay grows from step to step. Default: true.
    #[must_use]
    pub fn warmup(mut self, yes: bool) -> Self {
        self.warmup = yes;
        self
    }

    /// Sets `gamma` of the warm-up, in steps, above 0. Larger values make the warm-up longer. Default: 1.
    #[must_use]
    pub fn warmup_gamma(mut self, gamma: f64) -> Self {
        self.warmup_gamma = gamma;
        self
    }

    /// Sets `power` of the warm-up, above 0. With 1, the average is the plain mean of all steps. With 2/3, the
    /// decay is 0.99 after 1,000 steps and 0.999 after 31,600; with 3/4, after 460 and 10,000. Default: 2/3.
    #[must_use]
    pub fn warmup_power(mut self, power: f64) -> Self {
        self.warmup_power = power;
        self
    }

    /// Sets the minimum decay of the warm-up, from 0 to 1. Default: 0.
    #[must_use]
    pub fn min_decay(mut self, decay: f64) -> Self {
        self.min_decay = decay;
        self
    }

    /// Sets the number of optimizer steps after which averaging starts; until then the average is a copy of
    /// the weights. Default: 0.
    #[must_use]
    pub fn update_after_step(mut self, steps: u64) -> Self {
        self.update_after_step = steps;
        self
    }

    /// If true, running statistics are averaged too; otherwise they are copied from the model. Default: true.
    #[must_use]
    pub fn average_buffers(mut self, yes: bool) -> Self {
        self.average_buffers = yes;
        self
    }

    /// If true, validation uses the average. Otherwise it uses the trained weights, and the average replaces
    /// them only at the end of the fit. Default: true.
    #[must_use]
    pub fn validate(mut self, yes: bool) -> Self {
        self.validate = yes;
        self
    }

    /// Returns the decay at a step of the optimizer, counted from 1 in each fit.
    #[must_use]
    pub fn decay_at(&self, step: u64) -> f64 {
        let step = step.saturating_sub(self.update_after_step.saturating_add(1));
        if step == 0 {
            return 0.0;
        }
        if !self.warmup {
            return self.decay;
        }
        let decay = 1.0 - (1.0 + step as f64 / self.warmup_gamma).powf(-self.warmup_power);
        decay.min(self.decay).max(self.min_decay)
    }

    fn check(&self) -> Result<()> {
        for (option, value) in [("decay", self.decay), ("min_decay", self.min_decay)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(
                    option,
                    format!("is {value}; it must be between 0 and 1"),
                ));
            }
        }
        if self.min_decay > self.decay {
            let why = format!("is {}, above the `decay` of {}", self.min_decay, self.decay);
            return Err(Error::config("min_decay", why));
        }
        let warmup = [("warmup_gamma", self.warmup_gamma), ("warmup_power", self.warmup_power)];
        if let Some((option, value)) =
            warmup.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            return Err(Error::config(option, format!("is {value}; it must be above 0")));
        }
        let plain = Self::new();
        for (option, value, default) in [
            ("min_decay", self.min_decay, plain.min_decay),
            ("warmup_gamma", self.warmup_gamma, plain.warmup_gamma),
            ("warmup_power", self.warmup_power, plain.warmup_power),
        ] {
            if !self.warmup && value != default {
                return Err(Error::config(option, "has no effect with `warmup(false)`"));
            }
        }
        Ok(())
    }

    /// Returns the number of averaged steps and the average from a checkpoint; `None` if it contains neither.
    fn restored(&self, t: &Training) -> Result<Option<(u64, Kept)>> {
        let (Some(note), Some(saved)) = (t.notes.get(OWNER), t.tensors.get(OWNER)) else {
            return Ok(None);
        };
        let (Some(steps), Some(installed)) = (note["steps"].as_u64(), note["installed"].as_bool())
        else {
            return Ok(None);
        };
        let mut all = copies(t)?;
        let _guard = tch::no_grad_guard();
        for (name, tensor) in &mut all {
            let Some((_, saved)) = saved.iter().find(|(n, _)| n == name) else {
                return Err(Error::mismatch(
                    "Ema",
                    format!("the checkpoint has no average of `{name}`"),
                ));
            };
            tensor.f_copy_(saved)?;
        }
        let kept = Kept { installed, ..Kept::new(t, all, self.average_buffers)? };
        Ok(Some((steps, kept)))
    }

    /// Stores the state for a checkpoint. The tensors are handles, so later updates are included.
    fn note(&self, t: &mut Training) {
        if let Some(kept) = &self.kept {
            let note = json!({ "steps": self.steps, "installed": kept.installed });
            t.notes.insert(OWNER.to_owned(), note);
            let all = kept.all.iter().map(|(n, tensor)| (n.clone(), tensor.shallow_clone()));
            t.tensors.insert(OWNER.to_owned(), all.collect());
        }
    }

    /// Installs the average in the model if `yes` is true, otherwise the trained weights.
    fn install(&mut self, t: &mut Training, yes: bool) -> Result<()> {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.installed != yes) {
            kept.exchange()?;
            self.note(t);
        }
        Ok(())
    }

    /// Averages the running statistics of the average over all ranks.
    fn share(&self, t: &Training) -> Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let buffers = t.model.buffers();
        let of_buffer = |(name, _): &&(String, Tensor)| buffers.iter().any(|(n, _)| n == name);
        let all = kept.all.iter().filter(of_buffer);
        let all: Vec<_> = all.map(|(n, tensor)| (n.clone(), tensor.shallow_clone())).collect();
        t.average_statistics(&all)
    }
}

impl Default for Ema {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns copies of the model's tensors, in its order.
fn copies(t: &Training) -> Result<Vec<(String, Tensor)>> {
    let all = t.model.state_dict().into_iter();
    all.map(|(name, tensor)| Ok((name, tensor.f_detach_copy()?))).collect()
}

impl Callback for Ema {
    fn fingerprint(&self) -> Option<String> {
        let Self { decay, min_decay, warmup, warmup_gamma, warmup_power, .. } = self;
        let Self { update_after_step, average_buffers, validate, .. } = self;
        Some(format!(
            "Ema(decay {decay}, min_decay {min_decay}, warmup {warmup} {warmup_gamma} {warmup_power}, \
             update_after_step {update_after_step}, average_buffers {average_buffers}, validate {validate})"
        ))
    }

    fn exclusive(&self) -> Option<String> {
        Some("averages the weights".to_owned())
    }

    fn order(&self) -> i32 {
        order::EMA
    }

    fn skip_evaluation(&self) -> bool {
        true
    }

    fn before_fit(&mut self, t: &mut Training) -> Step {
        (self.steps, self.cancelled, self.kept) = (0, false, None);
        self.check()?;
        if t.is_resumed()
            && let Some((steps, kept)) = self.restored(t)?
        {
            (self.steps, self.kept) = (steps, Some(kept));
            self.note(t);
        }
        Ok(())
    }

    fn before_epoch(&mut self, t: &mut Training) -> Step {
        Ok(self.install(t, false)?)
    }

    fn after_cancel(&mut self, _: &mut Training, scope: Scope) -> Step {
        self.cancelled |= scope == Scope::Step;
        Ok(())
    }

    fn after_step(&mut self, t: &mut Training) -> Step {
        if std::mem::take(&mut self.cancelled) {
            return Ok(());
        }
        self.steps += 1;
        match &self.kept {
            Some(kept) => kept.update(self.decay_at(self.steps))?,
            // The first decay is 0, so the average is a copy of the weights.
            None => self.kept = Some(Kept::new(t, copies(t)?, self.average_buffers)?),
        }
        Ok(())
    }

    fn after_train(&mut self, t: &mut Training) -> Step {
        Ok(self.share(t)?)
    }

    fn before_validate(&mut self, t: &mut Training) -> Step {
        Ok(self.install(t, self.validate)?)
    }

    fn before_checkpoint(&mut self, t: &mut Training) -> Step {
        self.share(t)?;
        self.note(t);
        Ok(())
    }

    fn after_fit(&mut self, t: &mut Training) -> Step {
        self.install(t, true)?;
        self.kept = None;
        t.notes.remove(OWNER);
        t.tensors.remove(OWNER);
        Ok(())
    }
}

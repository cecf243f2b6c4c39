//! Updates parameters from gradients.

use super::{Hyper, Hypers, Rule, StepGroup, lookahead::Lookahead};
use crate::{
    error::{Error, Result},
    model::{Param, ParamKind},
    sys::{self, TensorList},
};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Updates parameters from gradients. Consists of a rule, hyperparameters for each group, and the rule's
/// state for each parameter.
///
/// A step updates all parameters of one group and decay class with a few calls of libtorch's fused kernels,
/// independent of the number of parameters.
#[derive(Debug)]
pub struct Optimizer {
    rule: Box<dyn Rule>,
    params: Vec<Param>,
    all: TensorList,
    kept: Vec<Option<Kept>>,
    hypers: Vec<Hypers>,
    wd_bn_bias: bool,
    lookahead: Option<Lookahead>,
    together: Vec<Together>,
    /// True for parameters that had a gradient when `together` was built.
    had: Vec<bool>,
}

/// The state of one parameter.
#[derive(Debug)]
struct Kept {
    state: Vec<Tensor>,
    steps: u64,
}

/// Parameters that are updated together as long as the same ones have gradients.
#[derive(Debug)]
struct Together {
    which: Vec<usize>,
    group: usize,
    decays: bool,
    steps: StepGroup,
}

impl Optimizer {
    /// Returns an optimizer for `params`, with the number of groups in `params`.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no parameters, a group is above 65,535, or a hyperparameter of the rule is
    /// invalid: see [`set`](Self::set).
    pub fn new(params: &[Param], rule: impl Rule + 'static) -> Result<Self> {
        params.iter().try_for_each(Param::check_group)?;
        let groups = params.iter().map(|p| p.group + 1).max().unwrap_or(0);
        if groups == 0 {
            return Err(Error::config("Optimizer::new", "the model has no parameters"));
        }
        let hypers = rule.hypers();
        hypers.check()?;
        Ok(Self {
            hypers: vec![hypers; groups],
            kept: params.iter().map(|_| None).collect(),
            all: list(params.iter().map(|p| &p.tensor))?,
            params: params.to_vec(),
            rule: Box::new(rule),
            wd_bn_bias: false,
            lookahead: None,
            together: vec![],
            had: vec![],
        })
    }

    /// If true, weight decay applies to biases and normalization layers too. Default: false.
    #[must_use]
    pub fn wd_bn_bias(mut self, yes: bool) -> Self {
        self.wd_bn_bias = yes;
        self.forget_together();
        self
    }

    /// Adds slow weights. After every `k` steps, they move the fraction `alpha` of the way to the trained
    /// weights, which then restart from there: fastai's `Lookahead`, where the defaults are 6 and 0.5.
    /// Zhang et al., [Lookahead Optimizer](https://arxiv.org/abs/1907.08610).
    ///
    /// # Errors
    /// [`Error::Config`] if `k` is 0 or `alpha` is not between 0 and 1.
    pub fn lookahead(mut self, k: usize, alpha: f64) -> Result<Self> {
        self.lookahead = Some(Lookahead::new(k, alpha)?);
        Ok(self)
    }

    /// Returns true if weight decay applies to biases and normalization layers too.
    #[must_use]
    pub fn decays_bn_bias(&self) -> bool {
        self.wd_bn_bias
    }

    /// Describes the rule with its options, and everything else that determines a step.
    pub(crate) fn description(&self) -> String {
        let mut text = format!("{:?}", self.rule);
        if self.wd_bn_bias {
            text.push_str(" with weight decay for all parameters");
        }
        if let Some(lookahead) = &self.lookahead {
            text.push_str(&lookahead.description());
        }
        text
    }

    /// Returns the hyperparameters of each group.
    #[must_use]
    pub fn hypers(&self) -> &[Hypers] {
        &self.hypers
    }

    /// Sets all hyperparameters, one set per group.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the number of sets differs from the number of groups, and [`Error::Config`] for values
    /// that [`set`](Self::set) rejects. Nothing is changed then.
    pub fn set_hypers(&mut self, hypers: &[Hypers]) -> Result<()> {
        self.one_each("hyperparameters", hypers.len())?;
        hypers.iter().try_for_each(Hypers::check)?;
        self.hypers.copy_from_slice(hypers);
        Ok(())
    }

    fn one_each(&self, what: &'static str, n: usize) -> Result<()> {
        let groups = self.hypers.len();
        if n == groups {
            return Ok(());
        }
        Err(Error::mismatch(what, format!("there are {n} values for {groups} parameter groups")))
    }

    /// Sets one hyperparameter, one value per group.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the number of values differs from the number of groups. [`Error::Config`] if a momentum
    /// is not at least 0 and below 1, or another value is negative, NaN or infinite. Nothing is changed then.
    pub fn set(&mut self, hyper: Hyper, values: &[f64]) -> Result<()> {
        self.one_each("hyperparameter", values.len())?;
        values.iter().try_for_each(|value| hyper.check(hyper.name(), *value))?;
        for (h, &v) in self.hypers.iter_mut().zip(values) {
            *match hyper {
                Hyper::Lr => &mut h.lr,
                Hyper::Mom => &mut h.mom,
                Hyper::SqrMom => &mut h.sqr_mom,
                Hyper::Eps => &mut h.eps,
                Hyper::Wd => &mut h.wd,
            } = v;
        }
        Ok(())
    }

    /// Returns the gradients of the trainable parameters that have one.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn grads(&self) -> Result<TensorList> {
        Ok(sys::grads(&self.all)?.0)
    }

    /// Takes one step. Parameters that are frozen or have no gradient do not change: no decay, no step
    /// count.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn step(&mut self) -> Result<()> {
        if let Some(lookahead) = &mut self.lookahead {
            lookahead.before_step(&self.all)?;
        }
        let done = self.together().and_then(|()| {
            let Self { together, kept, hypers, rule, .. } = self;
            together.iter_mut().try_for_each(|lot| lot.step(&**rule, &hypers[lot.group], kept))
        });
        if let Err(e) = done {
            // Some parameters have been updated and others have not: their counts differ now.
            self.forget_together();
            return Err(e);
        }
        match &mut self.lookahead {
            Some(lookahead) => lookahead.after_step(&self.all),
            None => Ok(()),
        }
    }

    /// Rebuilds the lists of parameters that are updated together, unless they are unchanged.
    fn together(&mut self) -> Result<()> {
        let (_, has) = sys::grads(&self.all)?;
        let mut as_before = has == self.had;
        for lot in &self.together {
            as_before = as_before && lot.fits()?;
        }
        if as_before {
            return Ok(());
        }
        let mut lots: BTreeMap<(usize, bool, u64), Vec<usize>> = BTreeMap::new();
        for (i, p) in self.params.iter().enumerate().filter(|(i, _)| has[*i]) {
            let kept = self.kept[i].get_or_insert_with(|| Kept::new(&*self.rule, &p.tensor));
            kept.lay_out_as(p)?;
            let decays = p.kind == ParamKind::Weight || self.wd_bn_bias;
            let steps = if self.rule.counts() { kept.steps } else { 0 };
            lots.entry((p.group, decays, steps)).or_default().push(i);
        }
        self.together = lots
            .into_iter()
            .map(|((group, decays, step), which)| {
                let kept = || which.iter().filter_map(|i| self.kept[*i].as_ref());
                let states = (0..self.rule.state_names().len())
                    .map(|k| list(kept().map(|kept| &kept.state[k])));
                let steps = StepGroup {
                    state: states.collect::<Result<_>>()?,
                    params: list(which.iter().map(|i| &self.params[*i].tensor))?,
                    grads: TensorList::new(&[])?,
                    step,
                    hypers: self.hypers[group],
                    decay: 0.0,
                };
                Ok(Together { which, group, decays, steps })
            })
            .collect::<Result<_>>()?;
        self.had = has;
        Ok(())
    }

    /// Frees all gradients, so that their memory is available until the next backward pass.
    pub fn zero_grad(&mut self) {
        // This cannot fail: the list is alive.
        let _ = sys::clear_grads(&self.all);
    }

    /// Clears the state: moments, counts, slow weights.
    pub fn clear_state(&mut self) {
        self.kept.iter_mut().for_each(|k| *k = None);
        self.lookahead.iter_mut().for_each(Lookahead::clear);
        self.forget_together();
    }

    fn forget_together(&mut self) {
        self.together.clear();
        self.had.clear();
    }

    /// Returns the state as `parameter.name`, for the parameters that have been updated. The tensors are
    /// handles to those in use. With slow weights, also `parameter.slow` and `lookahead.count`.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut all = vec![];
        for (p, kept) in self.params.iter().zip(&self.kept) {
            let Some(kept) = kept else { continue };
            for (name, tensor) in self.rule.state_names().iter().zip(&kept.state) {
                all.push((format!("{}.{name}", p.name), tensor.shallow_clone()));
            }
            if self.rule.counts() {
                all.push((format!("{}.{STEP}", p.name), count(kept.steps)));
            }
        }
        if let Some((slow, steps)) = self.lookahead.as_ref().and_then(Lookahead::state) {
            let slow = slow.tensors().unwrap_or_default();
            all.extend(
                self.params.iter().zip(slow).map(|(p, t)| (format!("{}.{SLOW}", p.name), t)),
            );
            all.push((COUNT.to_owned(), count(steps)));
        }
        all
    }

    /// Restores the result of [`Optimizer::state`]. Parameters that are not named start without state.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for an unexpected or missing name, a differing shape, and a count that is not an integer
    /// from 0 to 2⁵³. Nothing is changed then.
    pub fn load_state(&mut self, saved: &[(String, Tensor)]) -> Result<()> {
        let mut saved = Saved(saved.iter().map(|(n, t)| (n.as_str(), t)).collect());
        let mut all_kept = Vec::with_capacity(self.params.len());
        for p in &self.params {
            let names = self.rule.state_names();
            let of = |name: &str| format!("{}.{name}", p.name);
            let counts = self.rule.counts().then(|| of(STEP));
            if !names.iter().map(|n| of(n)).chain(counts.clone()).any(|n| saved.has(&n)) {
                all_kept.push(None);
                continue;
            }
            let mut kept = Kept::new(&*self.rule, &p.tensor);
            for (name, own) in names.iter().zip(&mut kept.state) {
                let found = saved.take(&of(name), &own.size())?;
                tch::no_grad(|| own.f_copy_(found))?;
            }
            if let Some(name) = counts {
                kept.steps = saved.number(&name)?;
            }
            all_kept.push(Some(kept));
        }
        let slow = match &self.lookahead {
            Some(_) if saved.has(COUNT) => {
                let of = |p: &Param| saved.take(&format!("{}.{SLOW}", p.name), &p.tensor.size());
                let slow = self.params.iter().map(of).map(|t| Ok(t?.shallow_clone()));
                let slow: Vec<Tensor> = slow.collect::<Result<_>>()?;
                Some((slow, saved.number(COUNT)?))
            }
            _ => None,
        };
        saved.nothing_left()?;
        if let Some(lookahead) = &mut self.lookahead {
            lookahead.clear();
            if let Some((slow, steps)) = slow {
                lookahead.load(&slow, steps)?;
            }
        }
        self.kept = all_kept;
        self.forget_together();
        Ok(())
    }
}

/// The names of the state besides the rule's own tensors.
const STEP: &str = "step";
const SLOW: &str = "slow";
const COUNT: &str = "lookahead.count";

fn list<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<TensorList> {
    TensorList::new(&tensors.map(Tensor::shallow_clone).collect::<Vec<_>>())
}

/// 2⁵³: up to here, a tensor of doubles has every count.
const LARGEST_COUNT: f64 = 9_007_199_254_740_992.0;

/// Converts a count to a tensor, exact up to [`LARGEST_COUNT`].
fn count(n: u64) -> Tensor {
    Tensor::from(n as f64)
}

impl Kept {
    /// Returns the state of a parameter before its first step.
    fn new(rule: &dyn Rule, param: &Tensor) -> Self {
        let zeros = || param.detach().zeros_like();
        Self { state: rule.state_names().iter().map(|_| zeros()).collect(), steps: 0 }
    }

    /// Converts the state to the memory layout, type and device of the parameter, which may have changed.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the shape of the parameter has changed.
    fn lay_out_as(&mut self, param: &Param) -> Result<()> {
        let (name, param) = (&param.name, &param.tensor);
        for state in &mut self.state {
            if state.size() != param.size() {
                let why = format!(
                    "`{name}` now has the shape {:?}, but its state has {:?}: create a \
                     new optimizer, or call `clear_state`",
                    param.size(),
                    state.size()
                );
                return Err(Error::mismatch("optimizer state", why));
            }
            let alike = state.stride() == param.stride()
                && state.kind() == param.kind()
                && state.device() == param.device();
            if !alike {
                let mut laid_out = param.detach().f_empty_like()?;
                laid_out.f_copy_(state)?;
                *state = laid_out;
            }
        }
        Ok(())
    }
}

impl Together {
    /// Returns true if parameters and state still have the same memory layout.
    fn fits(&self) -> Result<bool> {
        for state in &self.steps.state {
            if !state.is_laid_out_as(&self.steps.params)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(&mut self, rule: &dyn Rule, hypers: &Hypers, kept: &mut [Option<Kept>]) -> Result<()> {
        let steps = &mut self.steps;
        steps.grads = sys::grads(&steps.params)?.0.laid_out_as(&steps.params)?;
        steps.step += 1;
        steps.hypers = *hypers;
        steps.decay = if self.decays { hypers.wd } else { 0.0 };
        rule.step(steps)?;
        // The gradients belong to the parameters and are not state.
        steps.grads = TensorList::new(&[])?;
        for i in &self.which {
            kept[*i].iter_mut().for_each(|k| k.steps += 1);
        }
        Ok(())
    }
}

/// Saved tensors by name. Each is taken once.
struct Saved<'a>(BTreeMap<&'a str, &'a Tensor>);

impl<'a> Saved<'a> {
    fn wrong<T>(why: String) -> Result<T> {
        Err(Error::mismatch("optimizer state", why))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn take(&mut self, name: &str, size: &[i64]) -> Result<&'a Tensor> {
        let Some(found) = self.0.remove(name) else {
            return Self::wrong(format!("`{name}` is missing"));
        };
        if found.size() != size {
            return Self::wrong(format!("`{name}` is {:?} instead of {size:?}", found.size()));
        }
        Ok(found)
    }

    fn number(&mut self, name: &str) -> Result<u64> {
        let n = f64::try_from(self.take(name, &[])?.to_kind(Kind::Double))?;
        if (0.0..=LARGEST_COUNT).contains(&n) && n.fract() == 0.0 {
            return Ok(n as u64);
        }
        Self::wrong(format!("`{name}` is {n}; it must be a count of at most {LARGEST_COUNT}"))
    }

    fn nothing_left(&self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Self::wrong(format!(
                "`{name}` is unexpected: it belongs to another optimizer or model"
            )),
        }
    }
}

//! Optimizers over groups of parameters, and schedules of their hyper-parameters.

mod adam;
mod lr;
mod schedule;
mod sgd;

pub use {
    adam::Adam,
    lr::Lr,
    schedule::{Anneal, Schedule},
    sgd::Sgd,
};

use crate::{
    error::{Error, Result},
    model::{Param, ParamKind},
};
use std::{fmt, fmt::Debug};
use tch::{Kind, Tensor};

/// The hyper-parameters of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Hypers {
    /// The learning rate.
    pub lr: f64,
    /// The momentum: how much of the average of gradients stays.
    pub mom: f64,
    /// How much of the average of squared gradients stays.
    pub sqr_mom: f64,
    /// Added to a denominator.
    pub eps: f64,
    /// The weight decay.
    pub wd: f64,
}

/// A hyper-parameter that can be scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hyper {
    /// The learning rate.
    Lr,
    /// The momentum.
    Mom,
    /// The momentum of squares.
    SqrMom,
    /// What is added to a denominator.
    Eps,
    /// The weight decay.
    Wd,
}

impl fmt::Display for Hyper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lr => "lr",
            Self::Mom => "mom",
            Self::SqrMom => "sqr_mom",
            Self::Eps => "eps",
            Self::Wd => "wd",
        })
    }
}

/// One parameter in one step: what it is, its gradient, and what the rule keeps of it.
#[derive(Debug)]
pub struct Slot<'a> {
    /// The parameter.
    pub param: &'a Tensor,
    /// Its gradient, which the rule may change.
    pub grad: &'a Tensor,
    /// What the rule keeps, in the order of [`Rule::state_names`].
    pub state: &'a [Tensor],
}

/// How parameters take a step.
pub trait Rule: Debug {
    /// The hyper-parameters to begin with.
    fn hypers(&self) -> Hypers;

    /// The names of what is kept for each parameter; `step` is a single number, the others are of the
    /// parameter's shape.
    fn state_names(&self) -> &'static [&'static str];

    /// One step of the parameters of one group and decay class; `wd` is 0 where no decay applies.
    ///
    /// # Errors
    /// What libtorch reports.
    fn step(&self, slots: &[Slot<'_>], hypers: &Hypers, wd: f64) -> Result<()>;
}

/// What changes the weights: a rule, hyper-parameters for each group, and what the rule keeps of each
/// parameter.
#[derive(Debug)]
pub struct Optimizer {
    rule: Box<dyn Rule>,
    params: Vec<Param>,
    state: Vec<Option<Vec<Tensor>>>,
    hypers: Vec<Hypers>,
    wd_bn_bias: bool,
}

impl Optimizer {
    /// An optimizer for `params`, with as many groups as they name.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no parameters.
    pub fn new(params: &[Param], rule: impl Rule + 'static) -> Result<Self> {
        let groups = params.iter().map(|p| p.group + 1).max().unwrap_or(0);
        if groups == 0 {
            return Err(Error::config("Optimizer::new", "the model has no parameters"));
        }
        Ok(Self {
            hypers: vec![rule.hypers(); groups],
            state: params.iter().map(|_| None).collect(),
            params: params.to_vec(),
            rule: Box::new(rule),
            wd_bn_bias: false,
        })
    }

    /// Whether weight decay applies to biases and normalizations too. Default: false.
    #[must_use]
    pub fn wd_bn_bias(mut self, yes: bool) -> Self {
        self.wd_bn_bias = yes;
        self
    }

    /// The hyper-parameters of each group.
    #[must_use]
    pub fn hypers(&self) -> &[Hypers] {
        &self.hypers
    }

    /// Sets all hyper-parameters, a set for each group.
    pub fn set_hypers(&mut self, hypers: &[Hypers]) {
        for (old, new) in self.hypers.iter_mut().zip(hypers) {
            *old = *new;
        }
    }

    /// Sets one hyper-parameter, a value for each group.
    pub fn set(&mut self, hyper: Hyper, values: &[f64]) {
        for (h, &v) in self.hypers.iter_mut().zip(values) {
            *match hyper {
                Hyper::Lr => &mut h.lr,
                Hyper::Mom => &mut h.mom,
                Hyper::SqrMom => &mut h.sqr_mom,
                Hyper::Eps => &mut h.eps,
                Hyper::Wd => &mut h.wd,
            } = v;
        }
    }

    /// One step. Parameters without a gradient are left alone: no decay, no count.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn step(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let grads: Vec<Tensor> = self.params.iter().map(|p| p.tensor.grad()).collect();
        for (state, (param, grad)) in self.state.iter_mut().zip(self.params.iter().zip(&grads)) {
            if grad.defined() && state.is_none() {
                *state = Some(fresh(&*self.rule, &param.tensor));
            }
        }
        for (group, hypers) in self.hypers.iter().enumerate() {
            for decays in [true, false] {
                let slots: Vec<Slot<'_>> = self
                    .params
                    .iter()
                    .zip(&grads)
                    .zip(&self.state)
                    .filter(|((p, g), _)| {
                        let class = p.kind == ParamKind::Weight || self.wd_bn_bias;
                        p.group == group && class == decays && g.defined()
                    })
                    .map(|((p, grad), state)| Slot {
                        param: &p.tensor,
                        grad,
                        state: state.as_deref().unwrap_or_default(),
                    })
                    .collect();
                if !slots.is_empty() {
                    self.rule.step(&slots, hypers, if decays { hypers.wd } else { 0.0 })?;
                }
            }
        }
        Ok(())
    }

    /// Forgets all gradients.
    pub fn zero_grad(&mut self) {
        for p in &mut self.params {
            p.tensor.zero_grad();
        }
    }

    /// Forgets all that the rule keeps: moments and counts.
    pub fn clear_state(&mut self) {
        self.state.iter_mut().for_each(|s| *s = None);
    }

    /// What the rule keeps, as `parameter.name`, for the parameters that have taken a step.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut all = vec![];
        for (p, state) in self.params.iter().zip(&self.state) {
            for (name, tensor) in self.rule.state_names().iter().zip(state.iter().flatten()) {
                all.push((format!("{}.{name}", p.name), tensor.shallow_clone()));
            }
        }
        all
    }

    /// Puts back what [`Optimizer::state`] gave. Parameters that are not named begin anew.
    ///
    /// # Errors
    /// [`Error::Config`] naming what is unexpected, missing or of another shape; nothing is changed
    /// then.
    pub fn load_state(&mut self, saved: &[(String, Tensor)]) -> Result<()> {
        let wrong = |why: String| Error::config("optimizer state", why);
        let mut by_name: std::collections::BTreeMap<&str, &Tensor> =
            saved.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let names = self.rule.state_names();
        let mut state = Vec::with_capacity(self.params.len());
        for p in &self.params {
            let found: Vec<_> =
                names.iter().map(|n| by_name.remove(format!("{}.{n}", p.name).as_str())).collect();
            if found.iter().all(Option::is_none) {
                state.push(None);
                continue;
            }
            let expected = fresh(&*self.rule, &p.tensor);
            let mut kept = vec![];
            for ((name, found), mut new) in names.iter().zip(found).zip(expected) {
                let Some(found) = found else {
                    return Err(wrong(format!("`{}.{name}` is missing", p.name)));
                };
                if found.size() != new.size() {
                    let sizes = (found.size(), new.size());
                    let why = format!("`{}.{name}` is {:?} and not {:?}", p.name, sizes.0, sizes.1);
                    return Err(wrong(why));
                }
                tch::no_grad(|| new.f_copy_(found))?;
                kept.push(new);
            }
            state.push(Some(kept));
        }
        if let Some(name) = by_name.keys().next() {
            return Err(wrong(format!(
                "`{name}` is unexpected: it is of another optimizer or model"
            )));
        }
        self.state = state;
        Ok(())
    }
}

/// What a rule keeps of a parameter before its first step.
fn fresh(rule: &dyn Rule, param: &Tensor) -> Vec<Tensor> {
    let one = |name: &&str| {
        if *name == "step" {
            Tensor::zeros([] as [i64; 0], (Kind::Float, param.device()))
        } else {
            param.detach().zeros_like()
        }
    };
    rule.state_names().iter().map(one).collect()
}

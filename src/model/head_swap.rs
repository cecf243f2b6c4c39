//! Access to the head of a model: its input features, and its replacement.

use super::{HeadOptions, Model, layers::undrawn, listed_variables, net::Net};
use crate::{
    error::{Error, Result},
    sys::caught,
};
use std::collections::BTreeSet;
use tch::Tensor;

impl Model {
    /// Returns the options of the head.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network that was not built from a body and [`HeadOptions`].
    pub(crate) fn head_options(&self) -> Result<&HeadOptions> {
        let why = "needs a model with a body and a head that was built from `HeadOptions`, as \
                   `vision_learner` builds it: this is a U-Net, a whole classifier, or has a head of your own";
        let head = self.head.as_ref().ok_or_else(|| Error::unsupported("the linear probe", why))?;
        match head.options.has_range() {
            false => Ok(&head.options),
            true => {
                let why =
                    "its outputs are class scores without limits, but the head has a `y_range`";
                Err(Error::unsupported("the linear probe", why))
            }
        }
    }

    /// Returns the body's output for `x` after the head's pooling, in evaluation mode: `[N, features]`. With concat
    /// pooling, these are the maxima of all channels, followed by the means.
    ///
    /// # Errors
    /// [`Error::Unsupported`] as [`head_options`](Self::head_options); otherwise as
    /// [`forward`](Self::forward).
    pub(crate) fn pooled_features(&self, x: &Tensor) -> Result<Tensor> {
        let options = self.head_options()?;
        let done = caught(|| Ok(self.net.body_output(x).map(|out| options.pooled(&out))));
        let out = done
            .map_err(Error::computation(|| format!("the body on inputs of shape {:?}", x.size())))?
            .ok_or_else(|| Error::unsupported("the linear probe", "the model has no body"))?;
        match out.dim() {
            2 => Ok(out),
            _ => {
                let why = format!("is {:?} after pooling; it must be [N, features]", out.size());
                Err(Error::mismatch("the output of the body", why))
            }
        }
    }

    /// Replaces the head by that of [`HeadOptions::linear`], with these weights. The body is unchanged. The new head
    /// is in the parameter group of the previous one and is trainable.
    ///
    /// # Errors
    /// [`Error::Unsupported`] as [`head_options`](Self::head_options), and [`Error::Mismatch`] if the
    /// weights have another shape. On failure, the previous head is kept.
    pub(crate) fn install_linear_head(&mut self, regression: &LinearHead) -> Result<()> {
        let options = self.head_options()?.linear();
        let Some((arch, n_in)) = &self.arch else {
            return Err(Error::unsupported("the linear probe", "the model has no architecture"));
        };
        let n_in = *n_in as i64;
        let (Net::Parts { body, .. }, Some(own)) = (&self.net, &self.head) else {
            return Err(Error::unsupported("the linear probe", "the model has no body"));
        };
        let features = arch.features_of(body, n_in, self.vars.device())?;
        let outputs = regression.weight.size().first().copied().unwrap_or(0);
        let pointers: BTreeSet<usize> = own.of_body.iter().map(|t| t.data_ptr() as usize).collect();
        let is_of_body = |t: &Tensor| pointers.contains(&(t.data_ptr() as usize));
        let group = self.groups().saturating_sub(1);
        // Build the new head separately first, so that a failure changes nothing.
        let beside = tch::nn::VarStore::new(self.vars.device());
        let path = beside.root().set_group(group) / "head";
        let head = undrawn(|| options.build(&path, features, outputs))?;
        arch.rename(&beside)?;
        regression.copy_into(&beside)?;
        let poisoned = || Error::other("another thread panicked with the variables");
        {
            let mut old = self.vars.variables_.lock().map_err(|_| poisoned())?;
            let mut new = beside.variables_.lock().map_err(|_| poisoned())?;
            old.named_variables.retain(|_, t| is_of_body(t));
            old.trainable_variables.retain(|var| is_of_body(&var.tensor));
            old.named_variables.extend(new.named_variables.drain());
            old.trainable_variables.append(&mut new.trainable_variables);
        }
        (self.params, self.buffers) = listed_variables(&self.vars)?;
        if let Net::Parts { head: place, .. } = &mut self.net {
            *place = Box::new(head);
        }
        self.spec = self.spec.take().map(|spec| spec.with_other_head(options.clone()));
        if let Some(own) = &mut self.head {
            own.options = options;
        }
        Ok(())
    }
}

/// The values of a linear head: its outputs are `weight · (x - mean) / std + bias`.
#[derive(Debug)]
pub(crate) struct LinearHead {
    /// `[outputs, features]`.
    pub(crate) weight: Tensor,
    /// `[outputs]`.
    pub(crate) bias: Tensor,
    /// `[features]`.
    pub(crate) mean: Tensor,
    /// `[features]`, positive.
    pub(crate) std: Tensor,
}

impl LinearHead {
    /// Copies the values into the variables of a head of [`HeadOptions::linear`].
    fn copy_into(&self, vars: &tch::nn::VarStore) -> Result<()> {
        let _guard = tch::no_grad_guard();
        // The normalization divides by the square root of the variance and this number.
        let eps = tch::nn::BatchNormConfig::default().eps;
        let variance = self.std.f_square()?;
        let scale = (&variance + eps).f_sqrt()? / &self.std;
        let (weight, ones) = (&self.weight * &scale, scale.f_ones_like()?);
        let none = scale.f_zeros_like()?;
        let vars = vars.variables();
        let linear = vars.iter().find(|(_, t)| t.dim() == 2).and_then(|(name, _)| layer_of(name));
        for (name, mut own) in vars.iter().map(|(name, t)| (name, t.shallow_clone())) {
            let field = name.rsplit('.').next().unwrap_or_default();
            let given = match (field, layer_of(name) == linear) {
                ("running_mean", _) => &self.mean,
                ("running_var", _) => &variance,
                ("weight", true) => &weight,
                ("weight", false) => &ones,
                (_, true) => &self.bias,
                (_, false) => &none,
            };
            if own.size() != given.size() {
                let why =
                    format!("{name} is {:?}, but the probe has {:?}", own.size(), given.size());
                return Err(Error::mismatch("the linear probe", why));
            }
            own.f_copy_(given)?;
        }
        Ok(())
    }
}

/// Returns the name of the layer of a variable.
fn layer_of(variable: &str) -> Option<&str> {
    Some(variable.rsplit_once('.')?.0)
}

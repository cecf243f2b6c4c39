//! Weights trained on ImageNet.

use super::{Arch, Model, WeightsFrom, densenet, read_weights};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use tch::Tensor;

/// Loads the body of `arch`.
pub(super) fn load(model: &mut Model, arch: &Arch, n_in: usize, from: &WeightsFrom) -> Result<()> {
    let path = from.fetch(arch.weights().map(|weights| weights.file))?;
    let state = read_weights(&path)?;
    let broken = |why: String| Error::Checkpoint { path: path.clone(), why };
    let own = model.state_dict();
    let known: BTreeSet<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
    let first = model.params().first().map(|p| p.name.clone()).unwrap_or_default();
    let body = state.into_iter().map(|(name, t)| (densenet::current_name(&name), t));
    // What comes after the cut stays behind, unless this model has it.
    let beyond: Vec<String> = arch.beyond_cut().iter().map(|child| format!("{child}.")).collect();
    let cut_off = |name: &str| beyond.iter().any(|child| name.starts_with(child));
    let body = body.filter(|(name, _)| known.contains(name.as_str()) || !cut_off(name));
    let body = body.map(|(name, t)| {
        let adapted = if name == first { adapt_first_layer(&t, n_in as i64) } else { t };
        (name, adapted)
    });
    // The head is not ImageNet's: it stays.
    let head = own.iter().filter(|(name, _)| name.starts_with("head."));
    let head = head.map(|(name, t)| (name.clone(), t.shallow_clone()));
    let state: Vec<_> = body.chain(head).collect();
    model.load_state_dict(&state).map_err(|e| broken(e.to_string()))
}

/// The weights of a first layer for other numbers of channels than 3, as fastai adapts it: the sum for one, one and
/// a half times the first two for two, zeros for those beyond the third.
///
/// `weight` is a convolution's for 3 channels: `[outputs, 3, height, width]`.
pub fn adapt_first_layer(weight: &Tensor, n_in: i64) -> Tensor {
    match n_in {
        3 => weight.shallow_clone(),
        1 => weight.sum_dim_intlist(1, true, weight.kind()),
        2 => weight.narrow(1, 0, 2) * 1.5,
        n => {
            let mut size = weight.size();
            size[1] = n - size[1];
            Tensor::cat(
                &[weight.shallow_clone(), Tensor::zeros(size, (weight.kind(), weight.device()))],
                1,
            )
        }
    }
}

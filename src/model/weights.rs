//! Weights trained on ImageNet.

use super::{Arch, Model, WeightsFrom, read_weights};
use crate::error::{Error, Result};
use tch::Tensor;

/// Loads the body of `arch`.
pub(super) fn load(model: &mut Model, arch: &Arch, n_in: usize, from: &WeightsFrom) -> Result<()> {
    let path = from.fetch(Some(arch.file))?;
    let state = read_weights(&path)?;
    let broken = |why: String| Error::Checkpoint { path: path.clone(), why };
    let body = state.into_iter().filter(|(name, _)| !name.starts_with("fc."));
    let body = body.map(|(name, t)| {
        let adapted = if name == "conv1.weight" { first_layer(&t, n_in as i64) } else { t };
        (name, adapted)
    });
    // The head is not ImageNet's: it stays.
    let head = model.state_dict().into_iter().filter(|(name, _)| name.starts_with("head."));
    let state: Vec<_> = body.chain(head).collect();
    model.load_state_dict(&state).map_err(|e| broken(e.to_string()))
}

/// The first layer for other numbers of channels than 3, as fastai adapts it: the sum for one, one and
/// a half times the first two for two, zeros for those beyond the third.
fn first_layer(weight: &Tensor, n_in: i64) -> Tensor {
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

//! Weights trained on ImageNet.

use super::{Arch, Model};
use crate::error::{Error, Result};
use std::{env, path::PathBuf};
use tch::Tensor;

/// Where PyTorch keeps downloaded weights: `hub/checkpoints` in `TORCH_HOME`, else in the `torch` folder
/// of the user's cache.
fn folder() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        env::var_os("HOME")
            .or_else(|| env::var_os("USERPROFILE"))
            .map(|h| PathBuf::from(h).join(".cache"))
    });
    let home = env::var_os("TORCH_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| cache.unwrap_or_default().join("torch"));
    home.join("hub").join("checkpoints")
}

/// Loads the body of `arch` from the folder of PyTorch's weights.
pub(super) fn load(model: &mut Model, arch: &Arch, n_in: usize) -> Result<()> {
    let path = folder().join(arch.file).with_extension("safetensors");
    let broken = |why: String| Error::Checkpoint { path: path.clone(), why };
    if !path.exists() {
        let why = format!(
            "is not there. Write torchvision's weights to it once: python3 -c \"import torchvision, \
             safetensors.torch as s; s.save_file(torchvision.models.{}(weights='IMAGENET1K_V1')\
             .state_dict(), '{}')\"",
            arch.name,
            path.display()
        );
        return Err(broken(why));
    }
    let state = Tensor::read_safetensors(&path).map_err(|e| broken(e.to_string()))?;
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

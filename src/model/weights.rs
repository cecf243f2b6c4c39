//! Loads pretrained weights: published ones, or those of a file of this crate.

use super::{
    Arch, Model, WeightsFrom,
    layers::undrawn,
    layout::{Matched, Variables},
    resample,
    source::read_described,
    zoo::all,
};
use crate::{
    error::{Error, Result},
    format::{Metadata, StateDict},
    transform::{BatchSpec, Normalize},
};
use std::collections::BTreeMap;
use tch::{Device, Tensor, nn::VarStore};

/// Loads the body of `arch`. Returns the normalization that the weights were trained with, if any.
pub(super) fn load(
    model: &mut Model,
    arch: &Arch,
    n_in: usize,
    from: &WeightsFrom,
) -> Result<Option<Normalize>> {
    let hub = arch.weights().and_then(|w| w.place()).filter(|_| from.is_published());
    let path = match hub {
        Some(hub) => hub.fetch(None)?,
        None => from.fetch(arch.weights().map(|weights| weights.url()).as_deref())?,
    };
    let (state, about) = read_described(&path)?;
    let broken = |why: String| Error::checkpoint(path.clone(), why);
    let normalize = match from.own_normalization() {
        Some(own) => Some(own.clone()),
        None => normalization(&about, arch).map_err(broken)?,
    };
    if arch.is_of_table() {
        let all = of_publisher(model, arch, n_in, state)?;
        return match model.load_state_dict(&all) {
            Ok(()) => Ok(normalize),
            Err(e) => Err(broken(e.to_string())),
        };
    }
    let own = model.state_dict();
    let variables = Variables::new(arch.name(), model.state_dict());
    let matched = variables.matched(&state);
    let first = model.params().first().map(|p| p.name.clone()).unwrap_or_default();
    // Variables after the cut are dropped, unless this model has them.
    let beyond: Vec<String> = arch.beyond_cut().iter().map(|child| format!("{child}.")).collect();
    let cut_off = |name: &str| beyond.iter().any(|child| name.starts_with(child));
    let kept = matched.state.into_iter();
    let kept = kept.filter(|(name, _)| variables.has(name) || !cut_off(name));
    let body = kept.map(|(name, t)| {
        let adapted = if name == first { adapt_first_layer(&t, n_in as i64)? } else { t };
        Ok((name, adapted))
    });
    // The head, or the decoder, is new and unchanged.
    let head =
        own.iter().filter(|(name, _)| name.starts_with("head.") || name.starts_with("layers."));
    let head = head.map(|(name, t)| Ok((name.clone(), t.shallow_clone())));
    let all: StateDict =
        body.chain(head).collect::<Result<_>>().map_err(|e: Error| broken(e.to_string()))?;
    match model.load_state_dict(&all) {
        Ok(()) => Ok(normalize),
        Err(e) => Err(broken(format!("{e}. {}", closest(&state)))),
    }
}

/// Returns the variables that `model` uses of weights with their publisher's names, and its own head if
/// that differs.
fn of_publisher(model: &Model, arch: &Arch, n_in: usize, state: StateDict) -> Result<StateDict> {
    let own = model.state_dict();
    let known: BTreeMap<&str, &Tensor> = own.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let first = model.params().iter().find(|p| p.tensor.dim() == 4).map(|p| p.name.clone());
    let first = first.unwrap_or_default();
    let beyond = arch.beyond_cut();
    let of_classifier = |name: &str| beyond.iter().any(|prefix| name.starts_with(prefix));
    // Tables that this crate computes, and counters that it does not have.
    let computed = ["relative_position_index", "attn_mask", "num_batches_tracked"];
    let grid = patches(arch, &own);
    let mut loaded: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, t) in state {
        let Some(variable) = known.get(name.as_str()) else {
            if !of_classifier(&name) && !computed.iter().any(|end| name.ends_with(end)) {
                loaded.insert(name, t); // the error names it
            }
            continue;
        };
        let adapts = name == first && t.dim() == 4 && t.size()[1] == 3;
        let t = if adapts { adapt_first_layer(&t, n_in as i64)? } else { t };
        let t = resample::fitted(&name, t, &variable.size(), grid, arch.window_of(&name))?;
        // A classifier with another number of outputs keeps its initial weights.
        if !of_classifier(&name) || t.size() == variable.size() {
            loaded.insert(name, t);
        }
    }
    let new_head = model.has_new_head();
    for (name, t) in &own {
        if of_classifier(name) || (new_head && name.starts_with("head.")) {
            loaded.entry(name.clone()).or_insert_with(|| t.shallow_clone());
        }
    }
    Ok(loaded.into_iter().collect())
}

/// Returns the numbers of patches along the height and the width of the images that the network is built
/// for.
fn patches(arch: &Arch, own: &[(String, Tensor)]) -> Option<[i64; 2]> {
    let size = arch.image_size_of_build()?;
    let is_patch =
        |name: &str| name.ends_with("patch_embed.proj.weight") || name == "conv_proj.weight";
    let patch = own.iter().find(|(name, _)| is_patch(name))?.1.size();
    Some([size[0] / patch[2], size[1] / patch[3]])
}

/// Returns the normalization that weights were trained with: the one stored in a file of this crate,
/// otherwise that of the published weights of the architecture, otherwise ImageNet's.
fn normalization(about: &Metadata, arch: &Arch) -> Result<Option<Normalize>, String> {
    let broken = |e: serde_json::Error| format!("its description: {e}");
    let batch_tfms = match (about.get("export"), about.get("batch_tfms")) {
        (Some(export), _) => {
            let mut export: serde_json::Value = serde_json::from_str(export).map_err(broken)?;
            export.get_mut("batch_tfms").map(serde_json::Value::take)
        }
        (None, Some(tfms)) => Some(serde_json::from_str(tfms).map_err(broken)?),
        (None, None) => None,
    };
    let Some(batch_tfms) = batch_tfms else {
        let published = arch.weights().map(|weights| weights.normalize());
        return Ok(Some(published.unwrap_or_else(Normalize::imagenet)));
    };
    let tfms: Vec<BatchSpec> = serde_json::from_value(batch_tfms).map_err(broken)?;
    Ok(tfms.into_iter().find_map(|tfm| match tfm {
        BatchSpec::Normalize(normalize) => Some(normalize),
        _ => None,
    }))
}

/// Describes, for an error, which network of this crate the tensors of a file are closest to.
fn closest(state: &StateDict) -> String {
    let mut best: Option<(f64, Arch, Matched, usize)> = None;
    for arch in all() {
        let vars = VarStore::new(Device::Cpu);
        if undrawn(|| arch.body(&vars.root(), 3)).is_err() {
            continue;
        }
        let variables = Variables::new(arch.name(), vars.variables());
        let (n, matched) = (variables.len(), variables.matched(state));
        let share = matched.fitting as f64 / n.max(matched.state.len()) as f64;
        if best.as_ref().is_none_or(|best| best.0 < share) {
            best = Some((share, arch, matched, n));
        }
    }
    match best {
        Some((share, arch, matched, n)) if share > 0.1 => format!(
            "The closest network is `{}` in the layout of {}: {} of its {n} variables are in the file",
            arch.name(),
            matched.layout,
            matched.fitting
        ),
        _ => "No network of this crate has such variables".into(),
    }
}

/// Adapts the weights of a first layer to another number of channels.
///
/// For weights of 3 channels, as in fastai: for one channel, their sum; for two, 1.5 times the first two;
/// for more than three, additional zeros. In general, the first channels are kept and scaled by the ratio
/// of the channel numbers. A single channel is spread evenly, so that an image without colors gives the
/// same result.
///
/// `weight` has the shape `[outputs, channels, height, width]`. The result has `n_in` channels.
///
/// # Errors
/// [`Error::Mismatch`] if the shape is different, or `n_in` is not positive.
pub fn adapt_first_layer(weight: &Tensor, n_in: i64) -> Result<Tensor> {
    let size = weight.size();
    let had = match size[..] {
        [_, had, _, _] if had > 0 && n_in > 0 => had,
        _ => {
            let why = format!(
                "the weight has the shape {size:?} for {n_in} channels; it must be [outputs, channels, height, \
                 width], with at least one channel"
            );
            return Err(Error::mismatch("first layer", why));
        }
    };
    Ok(if n_in == had {
        weight.shallow_clone()
    } else if n_in == 1 {
        weight.f_sum_dim_intlist(1, true, weight.kind())?
    } else if had == 1 {
        weight.f_repeat([1, n_in, 1, 1])?.f_div_scalar(n_in)?
    } else if n_in < had {
        weight.f_narrow(1, 0, n_in)?.f_mul_scalar(had as f64 / n_in as f64)?
    } else {
        let beyond = [size[0], n_in - had, size[2], size[3]];
        let more = Tensor::f_zeros(beyond, (weight.kind(), weight.device()))?;
        Tensor::f_cat(&[weight.shallow_clone(), more], 1)?
    })
}

//! Loads pretrained weights: published ones, or those of a file of this crate.

use super::{
    Arch, Model, Param, WeightsFrom,
    layers::undrawn,
    layout::{Matched, Variables},
    resample::{self, Sides},
    source::read_described,
    zoo::{all, by_name},
};
use crate::{
    error::{Error, Result},
    format::{Metadata, StateDict},
    transform::{BatchSpec, Normalize},
};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Device, Tensor, nn::VarStore};

/// The number of variables of each kind that an error names.
const SHOWN: usize = 5;

/// Loads the body of `arch`, and the layers of its own classifier that `model` has in the same shape. Returns the
/// normalization that the weights were trained with, if any.
pub(super) fn load(
    model: &mut Model,
    arch: &Arch,
    n_in: usize,
    from: &WeightsFrom,
) -> Result<Option<Normalize>> {
    let hub = arch.weights().and_then(|w| w.place()).filter(|_| from.is_published());
    let path = match hub {
        Some(hub) => from.at_hub(hub).fetch(None)?,
        None => from.fetch(arch.weights().map(|weights| weights.url()).as_deref())?,
    };
    let (state, about) = read_described(&path)?;
    let broken = |why: String| Error::checkpoint(path.clone(), why);
    let normalize = match from.own_normalization() {
        Some(own) => Some(own.clone()),
        None => normalization(&about, arch).map_err(broken)?,
    };
    let spec = described(&about, "arch").map_err(broken)?.unwrap_or_default();
    let of_unet = is_of_unet(model, arch, &spec);
    let all = match arch.is_of_table() {
        true => {
            let size = trained_size(&spec).map_err(broken)?;
            of_publisher(model, arch, n_in, &state, size, of_unet)
        }
        false => of_body(model, arch, n_in, &state, of_unet),
    };
    let all = all.map_err(|e| broken(e.to_string()))?;
    match model.load_naming(&all, SHOWN) {
        Ok(()) => Ok(normalize),
        Err(e) => Err(broken(format!("{e}. {}", suggestion(arch, &state, &spec)))),
    }
}

/// Returns the variables of `model`, which are `own`, that a file of weights can contain.
fn published<'a>(model: &Model, arch: &'a Arch, own: &StateDict) -> Variables<'a> {
    let body = own.iter().filter(|(name, _)| !model.is_new(name));
    Variables::new(arch.name(), body.map(|(name, t)| (name, t)))
}

/// The prefix of the variables of a decoder.
const DECODER: &str = "layers.";

/// Returns true if `spec`, the description of a file, is of a U-Net whose decoder can be told from its body. Some
/// bodies have variables with the prefix of a decoder. For such a body, the file must be of the same network:
/// otherwise, the additional layers of a deeper body would be taken for a decoder.
fn is_of_unet(model: &Model, arch: &Arch, spec: &Value) -> bool {
    let of_body = |name: &str| name.starts_with(DECODER) && !model.is_new(name);
    let shared = || model.state_dict().iter().any(|(name, _)| of_body(name));
    let described = spec.get("unet").is_some_and(|unet| !unet.is_null());
    described && (spec["arch"] == arch.name() || !shared())
}

/// Returns the variables of the body from `state`, the layers of the network's own classifier that have the same shape,
/// and the model's own head or decoder. If `of_unet` is true, `state` is of a U-Net, whose decoder is left out.
fn of_body(
    model: &Model,
    arch: &Arch,
    n_in: usize,
    state: &StateDict,
    of_unet: bool,
) -> Result<StateDict> {
    let own = model.state_dict();
    let variables = published(model, arch, &own);
    let matched = variables.matched(state);
    let first = model.params().first().map(|p| p.name.clone()).unwrap_or_default();
    let beyond = arch.beyond_cut();
    let cut_off = |name: &str| beyond.iter().any(|child| name.starts_with(child));
    let of_decoder = |name: &str| of_unet && name.starts_with(DECODER) && !variables.has(name);
    let sizes: BTreeMap<&str, Vec<i64>> = own.iter().map(|(n, t)| (n.as_str(), t.size())).collect();
    // Variables after the cut are dropped, unless this model has them. A layer of the classifier with another
    // number of outputs keeps its initial weights.
    let fits = |name: &str, t: &Tensor| sizes.get(name).is_some_and(|size| *size == t.size());
    let kept = matched.state.into_iter();
    let kept = kept.filter(|(name, t)| !of_decoder(name) && (!cut_off(name) || fits(name, t)));
    let body = kept.map(|(name, t)| {
        let adapted = if name == first { adapt_first_layer(&t, n_in as i64)? } else { t };
        Ok((name, adapted))
    });
    let mut loaded = body.collect::<Result<BTreeMap<String, Tensor>>>()?;
    for (name, t) in &own {
        if model.is_new(name) {
            loaded.insert(name.clone(), t.shallow_clone());
        } else if cut_off(name) {
            loaded.entry(name.clone()).or_insert_with(|| t.shallow_clone());
        }
    }
    Ok(loaded.into_iter().collect())
}

/// Returns the variables from `state` that `model` has, by their publisher's names or those of another
/// implementation, and its own head or decoder if these are new. `size` is the image size of the network that the
/// weights are of, if it is known. If `of_unet` is true, they are of a U-Net, whose decoder is left out.
fn of_publisher(
    model: &Model,
    arch: &Arch,
    n_in: usize,
    state: &StateDict,
    size: Option<[i64; 2]>,
    of_unet: bool,
) -> Result<StateDict> {
    let own = model.state_dict();
    let known: BTreeMap<&str, &Tensor> = own.iter().map(|(name, t)| (name.as_str(), t)).collect();
    // Learned frequencies of rotary positions have four dimensions too, and come first.
    let is_conv = |p: &&Param| p.tensor.dim() == 4 && p.name.ends_with(".weight");
    let first = model.params().iter().find(is_conv).map(|p| p.name.clone()).unwrap_or_default();
    let beyond = arch.beyond_cut();
    let of_classifier = |name: &str| beyond.iter().any(|prefix| name.starts_with(prefix));
    // A file of this crate may have a head of fastai's instead.
    let not_needed = |name: &str| of_classifier(name) || name.starts_with("head.");
    // Tables that this crate computes, and counters that it does not have.
    let computed = ["relative_position_index", "attn_mask", "num_batches_tracked"];
    let trained = size.map(|[height, width]| arch.clone().image_size(height, width));
    trained.as_ref().map_or(Ok(()), Arch::check_size)?;
    let sides = |of: &dyn Fn(&Arch) -> Option<[i64; 2]>| Sides {
        file: trained.as_ref().and_then(of),
        network: of(arch),
    };
    let grid = sides(&|arch| patches(arch, &own));
    let variables = published(model, arch, &own);
    let renamed = variables.matched(state);
    let unchanged = state.iter().filter(|(name, _)| variables.has(name)).count();
    let state = if renamed.named > unchanged { &renamed.state } else { state };
    let mut loaded: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, t) in state.iter().filter(|(name, _)| !model.is_new(name)) {
        let Some(variable) = known.get(name.as_str()) else {
            let of_decoder = of_unet && name.starts_with(DECODER);
            let is_computed = computed.iter().any(|end| name.ends_with(end));
            if !not_needed(name) && !of_decoder && !is_computed {
                loaded.insert(name.clone(), t.shallow_clone()); // the error names it
            }
            continue;
        };
        let size = variable.size();
        let adapts = *name == first && t.dim() == 4 && size[1] == n_in as i64;
        let t = if adapts { adapt_first_layer(t, n_in as i64)? } else { t.shallow_clone() };
        let window = sides(&|arch| arch.window_of(name));
        let t = resample::fitted(name, t, &size, grid, window)?;
        // A classifier with another number of outputs keeps its initial weights.
        if !of_classifier(name) || t.size() == size {
            loaded.insert(name.clone(), t);
        }
    }
    for (name, t) in &own {
        if of_classifier(name) || model.is_new(name) {
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

/// Returns a part of the description in a file of this crate, of an exported model or of saved weights.
fn described(about: &Metadata, part: &str) -> Result<Option<Value>, String> {
    let parsed = |text: &String| serde_json::from_str::<Value>(text).map_err(|e| undescribed(&e));
    match (about.get("export"), about.get(part)) {
        (Some(export), _) => Ok(parsed(export)?.get_mut(part).map(Value::take)),
        (None, Some(own)) => match parsed(own) {
            // Another program may use the same key for something else.
            Err(_) if !about.contains_key("finetune") => Ok(None),
            value => value.map(Some),
        },
        (None, None) => Ok(None),
    }
}

fn undescribed(e: &serde_json::Error) -> String {
    format!("its description: {e}")
}

/// Returns the image size that the network in a file of this crate was built for, if its description, `spec`, has one.
fn trained_size(spec: &Value) -> Result<Option<[i64; 2]>, String> {
    let size = spec.get("image_size").cloned().unwrap_or_default();
    serde_json::from_value(size).map_err(|e| format!("its image size: {e}"))
}

/// Returns the normalization that weights were trained with: the one stored in a file of this crate,
/// otherwise that of the published weights of the architecture, otherwise ImageNet's.
fn normalization(about: &Metadata, arch: &Arch) -> Result<Option<Normalize>, String> {
    let Some(batch_tfms) = described(about, "batch_tfms")? else {
        let published = arch.weights().map(|weights| weights.normalize());
        return Ok(Some(published.unwrap_or_else(Normalize::imagenet)));
    };
    let tfms: Vec<BatchSpec> = serde_json::from_value(batch_tfms).map_err(|e| undescribed(&e))?;
    Ok(tfms.into_iter().find_map(|tfm| match tfm {
        BatchSpec::Normalize(normalize) => Some(normalize),
        _ => None,
    }))
}

/// Names, for an error, the network of a file: that of its description, `spec`, otherwise the closest one.
fn suggestion(wanted: &Arch, state: &StateDict, spec: &Value) -> String {
    let own = spec.get("arch").and_then(|name| by_name(name.as_str()?).ok());
    match own.filter(|arch| arch.name() != wanted.name()) {
        Some(arch) => format!("The file has the weights of `{}`", arch.name()),
        None => closest(wanted, state),
    }
}

/// Common networks of the tables with which a file is compared for an error. Those with functions are compared too.
const COMPARED: [&str; 20] = [
    "convnext_tiny",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_v2_s",
    "mobilenet_v2",
    "swin_t",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "timm/convnext_tiny",
    "timm/regnety_016",
    "timm/resnet50d",
    "timm/swin_tiny_patch4_window7_224",
    "timm/tf_efficientnetv2_s",
    "timm/tiny_vit_5m_224",
    "timm/vit_small_patch16_224",
    "timm/vit_tiny_patch16_224",
];

/// Describes, for an error, which network the tensors of a file are closest to: `wanted`, one of those with
/// functions, or one of [`COMPARED`].
fn closest(wanted: &Arch, state: &StateDict) -> String {
    let mut best: Option<(f64, Arch, Matched, usize)> = None;
    let of_tables = COMPARED.iter().filter_map(|name| by_name(name).ok());
    let others = all().into_iter().chain(of_tables).filter(|arch| arch.name() != wanted.name());
    for arch in others.chain([wanted.clone()]) {
        let vars = VarStore::new(Device::Cpu);
        let body = undrawn(|| arch.body(&vars.root(), 3));
        if body.and_then(|_| arch.rename(&vars)).is_err() {
            continue;
        }
        let variables = Variables::new(arch.name(), &vars.variables());
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
        _ => "No compared network has such variables".into(),
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

#[cfg(test)]
mod tests {
    use super::{COMPARED, by_name};

    #[test]
    fn compared_networks_exist() {
        assert!(COMPARED.iter().all(|name| by_name(name).is_ok()));
    }
}

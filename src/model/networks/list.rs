//! Lists the available networks.

use super::table::{Network, TABLES};
use crate::model::{families::Layout, published::Weights};

/// A network and one of its published weights, as returned by [`list`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NetworkInfo {
    /// The name for [`by_name`](crate::model::by_name): timm's name with its tag, or torchvision's.
    pub name: String,
    /// `timm` or `torchvision`.
    pub source: &'static str,
    /// The number of parameters of the network with the classifier of the weights. 0 for fastai's xresnets.
    pub parameters: u64,
    /// The number of channels of the body's output.
    pub features: i64,
    /// The weights; `None` if none are published.
    pub weights: Option<Weights>,
}

/// Returns the networks whose names match `pattern`, sorted by name, with one entry for each of their
/// weights. `*` matches any text; without it, names that contain `pattern` match.
///
/// ```
/// use finetune::model::list;
///
/// let found = list("convnext_tiny*");
/// let one = found.iter().find(|n| n.name == "convnext_tiny.in12k_ft_in1k").unwrap();
/// assert_eq!(one.parameters, 28_589_128);
/// let weights = one.weights.unwrap();
/// assert_eq!((weights.size, weights.crop_pct), ([224, 224], 0.95));
/// assert_eq!(weights.license, Some("apache-2.0"));
/// assert_eq!(weights.url(),
///     "https://huggingface.co/timm/convnext_tiny.in12k_ft_in1k/resolve/main/model.safetensors");
/// ```
#[must_use]
pub fn list(pattern: &str) -> Vec<NetworkInfo> {
    let tables = &*TABLES;
    let shipped = crate::model::all();
    let shipped = shipped.iter().map(|arch| NetworkInfo {
        name: arch.name().to_owned(),
        source: if arch.name().starts_with("xresnet") { "fastai" } else { "torchvision" },
        parameters: shipped_parameters(arch.name()),
        features: arch.features().unwrap_or(0),
        weights: arch.weights().copied(),
    });
    let rows = tables.timm.values().chain(tables.torchvision.values()).flat_map(entries);
    let mut found: Vec<NetworkInfo> =
        shipped.chain(rows).filter(|info| matches(pattern, &info.name)).collect();
    found.sort_by(|a, b| (&a.name, a.source).cmp(&(&b.name, b.source)));
    found
}

fn entries(network: &Network) -> Vec<NetworkInfo> {
    let info = |name: String, weights: Option<Weights>| NetworkInfo {
        name,
        source: if network.layout == Layout::Timm { "timm" } else { "torchvision" },
        parameters: parameters(network, weights.as_ref()),
        features: network.features,
        weights,
    };
    if network.layout == Layout::Torchvision || network.weights.is_empty() {
        return vec![info(network.name.to_owned(), network.weights.first().copied())];
    }
    let tagged = |w: &Weights| info(format!("{}.{}", network.name, w.name), Some(*w));
    network.weights.iter().map(tagged).collect()
}

/// Returns the number of parameters of a function of [`model`](crate::model): 0 if no table has it.
fn shipped_parameters(name: &str) -> u64 {
    let of_timm = || TABLES.timm.get(name).map(|network| network.params);
    TABLES.params.get(name).copied().or_else(of_timm).unwrap_or(0)
}

/// Returns the number of parameters with the classifier of `weights`.
fn parameters(network: &Network, weights: Option<&Weights>) -> u64 {
    let classes = |weights: Option<&Weights>| weights.map_or(0, |w| w.classes as u64);
    let default = classes(network.weights.first()) * network.class_params;
    network.params - default + classes(weights) * network.class_params
}

/// Returns true if `name` matches `pattern`, in which each `*` matches any text.
fn matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{list, matches};

    /// The counts of timm's models with the classes of each tag.
    #[test]
    fn parameters_are_those_with_the_classifier_of_the_weights() {
        let count = |name: &str| list(name)[0].parameters;
        assert_eq!(count("tiny_vit_5m_224.dist_in22k"), 12_082_725);
        assert_eq!(count("tiny_vit_5m_224.in1k"), 5_392_764);
    }

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("convnext*", "convnext_tiny") && matches("*", "x"));
        assert!(matches("vit_*_dinov2*", "vit_small_patch14_dinov2.lvd142m"));
        assert!(!matches("vit_*_dinov2", "vit_small_patch14_dinov2.lvd142m"));
        assert!(!matches("a*a", "a") && matches("dinov2", "vit_small_patch14_dinov2"));
    }
}

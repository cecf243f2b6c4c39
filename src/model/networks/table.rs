//! The tables of networks: one line per network.

use crate::{
    image::Filter,
    model::{
        families::{Family, Layout},
        published::Weights,
    },
    transform::Method,
};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::LazyLock};

/// timm's networks.
const TIMM: &str = include_str!("timm.jsonl");

/// torchvision's networks that are not functions of [`model`](crate::model).
const TORCHVISION: &str = include_str!("torchvision.jsonl");

/// A network of a table.
#[derive(Debug)]
pub(in crate::model) struct Network {
    pub(in crate::model) name: &'static str,
    pub(in crate::model) family: Family,
    pub(in crate::model) layout: Layout,
    /// The number of parameters of the network with the classifier of its default weights.
    pub(in crate::model) params: u64,
    /// The number of parameters of the classifier for each class. 0 if all weights have the same classes.
    pub(in crate::model) class_params: u64,
    /// The number of channels of the body's output.
    pub(in crate::model) features: i64,
    /// The published weights, the default first.
    pub(in crate::model) weights: Vec<Weights>,
}

/// A line of a table.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Network(Box<Row>),
    /// The number of parameters of a network that is a function of this crate.
    Facts {
        name: &'static str,
        params: u64,
    },
    /// An older name.
    Alias {
        name: &'static str,
        alias: &'static str,
    },
}

#[derive(Deserialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    family: Family,
    params: u64,
    #[serde(default)]
    class_params: u64,
    features: i64,
    weights: Vec<Published>,
}

/// Weights as stored in a table.
#[derive(Deserialize)]
struct Published {
    tag: &'static str,
    hub: Option<&'static str>,
    file: Option<&'static str>,
    size: [i64; 2],
    #[serde(default = "imagenet_mean")]
    mean: [f32; 3],
    #[serde(default = "imagenet_std")]
    std: [f32; 3],
    #[serde(default = "bicubic")]
    interpolation: Filter,
    #[serde(default = "crop_pct")]
    crop_pct: f32,
    #[serde(default)]
    crop_mode: CropMode,
    #[serde(default = "classes")]
    classes: usize,
    license: Option<&'static str>,
}

/// timm's names of the [`Method`]s.
#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum CropMode {
    #[default]
    Center,
    Squash,
}

fn imagenet_mean() -> [f32; 3] {
    [0.485, 0.456, 0.406]
}

fn imagenet_std() -> [f32; 3] {
    [0.229, 0.224, 0.225]
}

fn bicubic() -> Filter {
    Filter::Bicubic
}

fn crop_pct() -> f32 {
    0.875
}

fn classes() -> usize {
    1000
}

impl Published {
    fn weights(self, network: &str, timm: bool) -> Weights {
        // The tables live as long as the program, so these names may be leaked.
        let repo = || self.hub.unwrap_or_else(|| format!("timm/{network}.{}", self.tag).leak());
        let file = self.file.unwrap_or("model.safetensors");
        Weights {
            repo: timm.then(repo),
            size: self.size,
            mean: self.mean,
            std: self.std,
            interpolation: self.interpolation,
            method: match self.crop_mode {
                CropMode::Center => Method::Crop,
                CropMode::Squash => Method::Squish,
            },
            classes: self.classes,
            license: self.license,
            ..Weights::torchvision(self.tag, file, self.crop_pct)
        }
    }
}

/// Both tables: networks and aliases by name.
pub(super) struct Tables {
    pub(super) timm: BTreeMap<&'static str, Network>,
    pub(super) torchvision: BTreeMap<&'static str, Network>,
    pub(super) aliases: BTreeMap<&'static str, &'static str>,
    /// The number of parameters of networks that are functions of this crate.
    pub(super) params: BTreeMap<&'static str, u64>,
}

pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let (mut aliases, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let mut read = |text: &'static str, layout: Layout| {
        let mut networks = BTreeMap::new();
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Network(row)) => {
                    let Row { name, family, params, class_params, features, weights } = *row;
                    let timm = layout == Layout::Timm;
                    let weights = weights.into_iter().map(|w| w.weights(name, timm)).collect();
                    let family = family.laid_out(layout);
                    let network =
                        Network { name, family, layout, params, class_params, features, weights };
                    networks.insert(name, network);
                }
                Ok(Line::Facts { name, params }) => drop(counts.insert(name, params)),
                Ok(Line::Alias { name, alias }) => drop(aliases.insert(name, alias)),
                // The tables are part of the program: a test reads every line.
                Err(_) => {}
            }
        }
        networks
    };
    let timm = read(TIMM, Layout::Timm);
    let torchvision = read(TORCHVISION, Layout::Torchvision);
    Tables { timm, torchvision, aliases, params: counts }
});

/// Returns the network called `name` and the weights that the name selects: timm's `NAME.TAG`, a name of
/// either library without a tag, or either with the prefix `timm/` or `torchvision/`. A plain name that
/// both libraries have is torchvision's.
pub(in crate::model) fn find(name: &str) -> Option<(&'static Network, Option<Weights>)> {
    let tables = &*TABLES;
    if let Some(name) = name.strip_prefix("torchvision/") {
        let network = tables.torchvision.get(name)?;
        return Some((network, network.weights.first().copied()));
    }
    let (own, timm_only) = match name.strip_prefix("timm/") {
        Some(name) => (name, true),
        None => (name, false),
    };
    if let Some(network) = tables.torchvision.get(own).filter(|_| !timm_only) {
        return Some((network, network.weights.first().copied()));
    }
    let own = tables.aliases.get(own).copied().unwrap_or(own);
    let (plain, tag) = own.split_once('.').map_or((own, None), |(a, b)| (a, Some(b)));
    let network = tables.timm.get(plain)?;
    match tag {
        None => Some((network, network.weights.first().copied())),
        Some(tag) => {
            let weights = network.weights.iter().find(|w| w.name == tag)?;
            Some((network, Some(*weights)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, TABLES, TIMM, TORCHVISION};

    /// A network with an option that its family does not have is not mistaken for another kind of line.
    #[test]
    fn a_line_with_an_unknown_option_is_an_error() {
        let line = |args: &str| {
            let rest = r#""params":1,"features":1,"weights":[]"#;
            format!(r#"{{"name":"a","family":"vit","args":{{{args}}},{rest}}}"#)
        };
        let read = |text: &str| serde_json::from_str::<Line>(text.to_owned().leak()).is_ok();
        assert!(read(&line(r#""depth":3"#)) && !read(&line(r#""num_kv_heads":[3]"#)));
    }

    #[test]
    fn every_line_is_read_and_valid() {
        for line in TIMM.lines().chain(TORCHVISION.lines()) {
            let read: Result<Line, _> = serde_json::from_str(line);
            assert!(read.is_ok(), "{:?} in {line}", read.err());
        }
        let networks = TABLES.timm.values().chain(TABLES.torchvision.values());
        for network in networks {
            assert!(network.family.is_valid(), "{}", network.name);
            assert!(network.features > 0 && network.params > 0, "{}", network.name);
            let classes = network.weights.first().map_or(0, |w| w.classes as u64);
            assert!(network.params > classes * network.class_params, "{}", network.name);
        }
        for (old, new) in &TABLES.aliases {
            assert!(super::find(new).is_some(), "{old} is {new}");
        }
    }
}

//! The variable names that other implementations use for the networks of this crate.
//!
//! A file of weights is recognized by its names: each prefix and each layout that could apply is tried, and
//! the one that matches most variables of the network is used.

use crate::format::StateDict;
use std::collections::{BTreeMap, HashMap};
use tch::Tensor;

/// Prefixes that wrappers add to all names: parallel training, a compiled module, Lightning, the first part
/// of a fastai model. They can be nested.
const PREFIXES: &[&str] =
    &["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.", "0."];

/// The maximum nesting depth of prefixes.
const MAX_NESTED: usize = 3;

/// The prefixes of the layers after the body. They are not loaded.
const HEADS: &[&str] =
    &["head.", "fc.", "_fc.", "classifier.", "last_linear.", "pre_logits.", "head_fc.", "1."];

/// A name in a file, and the possible names in this crate: the first one that the network has is used.
///
/// `{stage}` and `{block}` match numbers, `{flat}` the number of a block counted through all stages, any
/// other word in braces one component of a name, `{rest}` the remainder. On the right-hand side,
/// `{stage+1}` is the number plus one.
type Rule = (&'static str, &'static [&'static str]);

/// The names of one implementation.
#[derive(Debug)]
struct Layout {
    /// The name of the implementation, for messages.
    of: &'static str,
    /// The networks that it applies to, by a part of their names.
    family: &'static str,
    /// Tried in this order for each name. A name that matches no rule is unchanged.
    rules: &'static [Rule],
}

const LAYOUTS: &[Layout] = &[
    Layout { of: "timm", family: "efficientnet", rules: TIMM_EFFICIENTNET },
    Layout { of: "efficientnet_pytorch", family: "efficientnet", rules: EFFICIENTNET_PYTORCH },
    Layout { of: "timm", family: "mobilenet_v2", rules: TIMM_MOBILENET_V2 },
    Layout { of: "timm", family: "mobilenet_v3", rules: TIMM_MOBILENET_V3 },
    Layout { of: "torchvision before 0.3", family: "densenet", rules: EARLY_DENSENET },
];

// https://github.com/huggingface/pytorch-image-models, `_efficientnet_blocks.py`. The blocks of stage 0
// have no expansion. Those of the lite networks, and some of MobileNet v3, have no squeeze-and-excitation
// and so one layer less.
const TIMM_EFFICIENTNET: &[Rule] = &[
    ("conv_stem.{rest}", &["features.0.0.{rest}"]),
    ("bn1.{rest}", &["features.0.1.{rest}"]),
    ("blocks.0.{block}.conv_dw.{rest}", &["features.1.{block}.block.0.0.{rest}"]),
    ("blocks.0.{block}.bn1.{rest}", &["features.1.{block}.block.0.1.{rest}"]),
    ("blocks.0.{block}.se.conv_reduce.{rest}", &["features.1.{block}.block.1.fc1.{rest}"]),
    ("blocks.0.{block}.se.conv_expand.{rest}", &["features.1.{block}.block.1.fc2.{rest}"]),
    (
        "blocks.0.{block}.conv_pw.{rest}",
        &["features.1.{block}.block.2.0.{rest}", "features.1.{block}.block.1.0.{rest}"],
    ),
    (
        "blocks.0.{block}.bn2.{rest}",
        &["features.1.{block}.block.2.1.{rest}", "features.1.{block}.block.1.1.{rest}"],
    ),
    ("blocks.{stage}.{block}.conv_pw.{rest}", &["features.{stage+1}.{block}.block.0.0.{rest}"]),
    ("blocks.{stage}.{block}.bn1.{rest}", &["features.{stage+1}.{block}.block.0.1.{rest}"]),
    ("blocks.{stage}.{block}.conv_dw.{rest}", &["features.{stage+1}.{block}.block.1.0.{rest}"]),
    ("blocks.{stage}.{block}.bn2.{rest}", &["features.{stage+1}.{block}.block.1.1.{rest}"]),
    (
        "blocks.{stage}.{block}.se.conv_reduce.{rest}",
        &["features.{stage+1}.{block}.block.2.fc1.{rest}"],
    ),
    (
        "blocks.{stage}.{block}.se.conv_expand.{rest}",
        &["features.{stage+1}.{block}.block.2.fc2.{rest}"],
    ),
    (
        "blocks.{stage}.{block}.conv_pwl.{rest}",
        &[
            "features.{stage+1}.{block}.block.3.0.{rest}",
            "features.{stage+1}.{block}.block.2.0.{rest}",
        ],
    ),
    (
        "blocks.{stage}.{block}.bn3.{rest}",
        &[
            "features.{stage+1}.{block}.block.3.1.{rest}",
            "features.{stage+1}.{block}.block.2.1.{rest}",
        ],
    ),
    ("conv_head.{rest}", &["features.8.0.{rest}"]),
    ("bn2.{rest}", &["features.8.1.{rest}"]),
    ("classifier.{rest}", &["classifier.1.{rest}"]),
];

// https://github.com/lukemelas/EfficientNet-PyTorch, `model.py`. The networks with its names are
// torchvision's or timm's here. The blocks of stage 0 have no expansion.
const EFFICIENTNET_PYTORCH: &[Rule] = &[
    ("_conv_stem.{rest}", &["features.0.0.{rest}", "conv_stem.{rest}"]),
    ("_bn0.{rest}", &["features.0.1.{rest}", "bn1.{rest}"]),
    (
        "_blocks.{flat}._expand_conv.{rest}",
        &["features.{stage+1}.{block}.block.0.0.{rest}", "blocks.{stage}.{block}.conv_pw.{rest}"],
    ),
    (
        "_blocks.{flat}._bn0.{rest}",
        &["features.{stage+1}.{block}.block.0.1.{rest}", "blocks.{stage}.{block}.bn1.{rest}"],
    ),
    (
        "_blocks.{flat}._depthwise_conv.{rest}",
        &[
            "features.{stage+1}.{block}.block.{widens}.0.{rest}",
            "blocks.{stage}.{block}.conv_dw.{rest}",
        ],
    ),
    (
        "_blocks.{flat}._bn1.{rest}",
        &[
            "features.{stage+1}.{block}.block.{widens}.1.{rest}",
            "blocks.{stage}.{block}.bn{widens+1}.{rest}",
        ],
    ),
    (
        "_blocks.{flat}._se_reduce.{rest}",
        &[
            "features.{stage+1}.{block}.block.{widens+1}.fc1.{rest}",
            "blocks.{stage}.{block}.se.conv_reduce.{rest}",
        ],
    ),
    (
        "_blocks.{flat}._se_expand.{rest}",
        &[
            "features.{stage+1}.{block}.block.{widens+1}.fc2.{rest}",
            "blocks.{stage}.{block}.se.conv_expand.{rest}",
        ],
    ),
    (
        "_blocks.{flat}._project_conv.{rest}",
        &[
            "features.{stage+1}.{block}.block.{widens+2}.0.{rest}",
            "features.{stage+1}.{block}.block.{widens+1}.0.{rest}",
            "blocks.{stage}.{block}.conv_pwl.{rest}",
            "blocks.{stage}.{block}.conv_pw.{rest}",
        ],
    ),
    (
        "_blocks.{flat}._bn2.{rest}",
        &[
            "features.{stage+1}.{block}.block.{widens+2}.1.{rest}",
            "features.{stage+1}.{block}.block.{widens+1}.1.{rest}",
            "blocks.{stage}.{block}.bn{widens+2}.{rest}",
        ],
    ),
    ("_conv_head.{rest}", &["features.8.0.{rest}", "conv_head.{rest}"]),
    ("_bn1.{rest}", &["features.8.1.{rest}", "bn2.{rest}"]),
    ("_fc.{rest}", &["classifier.1.{rest}", "classifier.{rest}"]),
];

const TIMM_MOBILENET_V2: &[Rule] = &[
    ("conv_stem.{rest}", &["features.0.0.{rest}"]),
    ("bn1.{rest}", &["features.0.1.{rest}"]),
    ("blocks.0.0.conv_dw.{rest}", &["features.1.conv.0.0.{rest}"]),
    ("blocks.0.0.bn1.{rest}", &["features.1.conv.0.1.{rest}"]),
    ("blocks.0.0.conv_pw.{rest}", &["features.1.conv.1.{rest}"]),
    ("blocks.0.0.bn2.{rest}", &["features.1.conv.2.{rest}"]),
    ("blocks.{stage}.{block}.conv_pw.{rest}", &["features.{flat+1}.conv.0.0.{rest}"]),
    ("blocks.{stage}.{block}.bn1.{rest}", &["features.{flat+1}.conv.0.1.{rest}"]),
    ("blocks.{stage}.{block}.conv_dw.{rest}", &["features.{flat+1}.conv.1.0.{rest}"]),
    ("blocks.{stage}.{block}.bn2.{rest}", &["features.{flat+1}.conv.1.1.{rest}"]),
    ("blocks.{stage}.{block}.conv_pwl.{rest}", &["features.{flat+1}.conv.2.{rest}"]),
    ("blocks.{stage}.{block}.bn3.{rest}", &["features.{flat+1}.conv.3.{rest}"]),
    ("conv_head.{rest}", &["features.18.0.{rest}"]),
    ("bn2.{rest}", &["features.18.1.{rest}"]),
    ("classifier.{rest}", &["classifier.1.{rest}"]),
];

// The last stage is one convolution. `conv_head`, which timm puts after the pooling, is a linear layer of
// torchvision's classifier.
const TIMM_MOBILENET_V3: &[Rule] = &[
    ("conv_stem.{rest}", &["features.0.0.{rest}"]),
    ("bn1.{rest}", &["features.0.1.{rest}"]),
    ("blocks.0.0.conv_dw.{rest}", &["features.1.block.0.0.{rest}"]),
    ("blocks.0.0.bn1.{rest}", &["features.1.block.0.1.{rest}"]),
    ("blocks.0.0.se.conv_reduce.{rest}", &["features.1.block.1.fc1.{rest}"]),
    ("blocks.0.0.se.conv_expand.{rest}", &["features.1.block.1.fc2.{rest}"]),
    ("blocks.0.0.conv_pw.{rest}", &["features.1.block.2.0.{rest}", "features.1.block.1.0.{rest}"]),
    ("blocks.0.0.bn2.{rest}", &["features.1.block.2.1.{rest}", "features.1.block.1.1.{rest}"]),
    ("blocks.{stage}.{block}.conv.{rest}", &["features.{flat+1}.0.{rest}"]),
    (
        "blocks.{stage}.{block}.bn1.{rest}",
        &["features.{flat+1}.block.0.1.{rest}", "features.{flat+1}.1.{rest}"],
    ),
    ("blocks.{stage}.{block}.conv_pw.{rest}", &["features.{flat+1}.block.0.0.{rest}"]),
    ("blocks.{stage}.{block}.conv_dw.{rest}", &["features.{flat+1}.block.1.0.{rest}"]),
    ("blocks.{stage}.{block}.bn2.{rest}", &["features.{flat+1}.block.1.1.{rest}"]),
    ("blocks.{stage}.{block}.se.conv_reduce.{rest}", &["features.{flat+1}.block.2.fc1.{rest}"]),
    ("blocks.{stage}.{block}.se.conv_expand.{rest}", &["features.{flat+1}.block.2.fc2.{rest}"]),
    (
        "blocks.{stage}.{block}.conv_pwl.{rest}",
        &["features.{flat+1}.block.3.0.{rest}", "features.{flat+1}.block.2.0.{rest}"],
    ),
    (
        "blocks.{stage}.{block}.bn3.{rest}",
        &["features.{flat+1}.block.3.1.{rest}", "features.{flat+1}.block.2.1.{rest}"],
    ),
    ("conv_head.{rest}", &["classifier.0.{rest}"]),
    ("classifier.{rest}", &["classifier.3.{rest}"]),
];

const EARLY_DENSENET: &[Rule] = &[
    (
        "features.{part}.{layer}.norm.{number}.{rest}",
        &["features.{part}.{layer}.norm{number}.{rest}"],
    ),
    (
        "features.{part}.{layer}.conv.{number}.{rest}",
        &["features.{part}.{layer}.conv{number}.{rest}"],
    ),
];

/// The number of blocks per stage, for networks whose own names do not contain it.
const STAGES: &[(&str, &[usize])] = &[
    ("mobilenet_v2", &[1, 2, 3, 4, 3, 3, 1]),
    ("mobilenet_v3_small", &[1, 2, 3, 2, 3, 1]),
    ("mobilenet_v3_large", &[1, 2, 3, 4, 2, 3, 1]),
];

/// The names and shapes of a network's variables.
#[derive(Debug)]
pub(super) struct Variables<'a> {
    arch: &'a str,
    shapes: BTreeMap<String, Vec<i64>>,
    /// The number of blocks per stage; empty if there are no stages.
    stages: Vec<usize>,
}

/// The tensors of a file under the names of a network.
#[derive(Debug)]
pub(super) struct Matched {
    /// The tensors, with names of the network if it has such a variable.
    pub(super) state: StateDict,
    /// The layout of the file: the implementation, and the prefix.
    pub(super) layout: String,
    /// The number of the network's variables that were found.
    pub(super) named: usize,
    /// The number of those with the right shape.
    pub(super) fitting: usize,
}

/// How a name is translated.
enum Renaming<'a> {
    None,
    Names(&'a HashMap<String, &'a str>),
    Rules(&'static [Rule]),
}

impl<'a> Variables<'a> {
    /// Creates it from the variables that a file can contain, so without a new head.
    pub(super) fn new<'b>(
        arch: &'a str,
        variables: impl IntoIterator<Item = (&'b String, &'b Tensor)>,
    ) -> Self {
        let shapes: BTreeMap<String, Vec<i64>> =
            variables.into_iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        let mut stages = vec![];
        for name in shapes.keys() {
            let mut parts = name.split('.');
            let (first, stage, block) = (parts.next(), parts.next(), parts.next());
            let number = |part: Option<&str>| part.and_then(|n| n.parse::<usize>().ok());
            // torchvision's stage 0 is the stem.
            let stage = match first {
                Some("blocks") => number(stage),
                Some("features") if parts.next() == Some("block") => {
                    number(stage).and_then(|stage| stage.checked_sub(1))
                }
                _ => None,
            };
            if let (Some(stage), Some(block)) = (stage, number(block)) {
                stages.resize(stages.len().max(stage + 1), 0);
                stages[stage] = stages[stage].max(block + 1);
            }
        }
        if stages.is_empty() {
            let known = STAGES.iter().find(|(known, _)| *known == arch);
            stages.extend(known.into_iter().flat_map(|(_, stages)| *stages));
        }
        Self { arch, shapes, stages }
    }

    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Returns the tensors of `state` with the prefix and the layout that match most variables of this
    /// network. Names without that prefix and layers after the body are left out.
    pub(super) fn matched(&self, state: &StateDict) -> Matched {
        let fastai: HashMap<String, &str> =
            self.shapes.keys().map(|own| (fastai_name(own), own.as_str())).collect();
        let known = LAYOUTS.iter().filter(|layout| self.arch.contains(layout.family));
        let mut layouts =
            vec![("torchvision", Renaming::None), ("fastai", Renaming::Names(&fastai))];
        layouts.extend(known.map(|layout| (layout.of, Renaming::Rules(layout.rules))));
        let mut best: Option<Matched> = None;
        for prefix in prefixes(state) {
            for (of, renaming) in &layouts {
                let candidate = self.under(state, &prefix, of, renaming);
                let better = |best: &Matched| {
                    (best.named, best.fitting) < (candidate.named, candidate.fitting)
                };
                if best.as_ref().is_none_or(better) {
                    best = Some(candidate);
                }
            }
        }
        best.unwrap_or_else(|| self.under(state, "", "torchvision", &Renaming::None))
    }

    fn under(&self, state: &StateDict, prefix: &str, of: &str, renaming: &Renaming<'_>) -> Matched {
        let mut kept = vec![];
        let (mut named, mut fitting) = (0, 0);
        for (name, tensor) in state {
            let Some(name) = name.strip_prefix(prefix) else { continue };
            let name = self.renamed(renaming, name);
            match self.shapes.get(&name) {
                Some(shape) => {
                    named += 1;
                    fitting += usize::from(*shape == tensor.size());
                }
                None if HEADS.iter().any(|head| name.starts_with(head)) => continue,
                None => {}
            }
            kept.push((name, tensor.shallow_clone()));
        }
        let layout = match prefix {
            "" => of.to_owned(),
            _ => format!("{of} behind `{prefix}`"),
        };
        Matched { state: kept, layout, named, fitting }
    }

    fn renamed(&self, renaming: &Renaming<'_>, name: &str) -> String {
        let found = match renaming {
            Renaming::None => None,
            Renaming::Names(names) => names.get(name).map(|own| (*own).to_owned()),
            Renaming::Rules(rules) => rules.iter().find_map(|(from, to)| {
                let words = self.words(from, name)?;
                let names: Vec<String> = to.iter().filter_map(|to| filled(to, &words)).collect();
                let own = names.iter().find(|name| self.shapes.contains_key(*name));
                own.or(names.first()).cloned()
            }),
        };
        found.unwrap_or_else(|| name.to_owned())
    }

    /// Returns the values of the words in braces of a pattern for `name`, and values derived from them.
    fn words(&self, pattern: &str, name: &str) -> Option<HashMap<String, String>> {
        let mut words = HashMap::new();
        let mut left = name;
        for part in pattern.split('.') {
            if part == "{rest}" {
                words.insert("rest".into(), left.to_owned());
                break;
            }
            let (first, after) = left.split_once('.')?;
            left = after;
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(word) => drop(words.insert(word.into(), first.to_owned())),
                None if part == first => {}
                None => return None,
            }
        }
        self.count_blocks(&mut words);
        Some(words)
    }

    /// Adds the number of the block among all blocks from its stage and number, or the reverse, and whether
    /// it has an expansion.
    fn count_blocks(&self, words: &mut HashMap<String, String>) {
        if self.stages.is_empty() {
            return;
        }
        let stages = &self.stages;
        let number =
            |word: &str| words.get(word).and_then(|n| n.parse::<u32>().ok()).map(|n| n as usize);
        let (stage, flat) = match (number("stage"), number("block"), number("flat")) {
            (Some(stage), Some(block), _) => {
                (stage, stages.iter().take(stage).sum::<usize>() + block)
            }
            (.., Some(flat)) => {
                let mut before = 0;
                let within = |n: &&usize| {
                    before += **n;
                    before <= flat
                };
                (stages.iter().take_while(within).count(), flat)
            }
            _ => return,
        };
        let block = flat - stages.iter().take(stage).sum::<usize>();
        let counted =
            [("stage", stage), ("block", block), ("flat", flat), ("widens", stage.min(1))];
        words.extend(counted.map(|(word, n)| (word.to_owned(), n.to_string())));
    }
}

/// Replaces the words in a template; `None` if a word is missing.
fn filled(template: &str, words: &HashMap<String, String>) -> Option<String> {
    let mut all = String::new();
    let mut left = template;
    while let Some((before, after)) = left.split_once('{') {
        let (word, after) = after.split_once('}')?;
        all.push_str(before);
        match word.split_once('+') {
            None => all.push_str(words.get(word)?),
            Some((word, more)) => {
                let sum =
                    words.get(word)?.parse::<usize>().ok()?.checked_add(more.parse().ok()?)?;
                all.push_str(&sum.to_string());
            }
        }
        left = after;
    }
    all.push_str(left);
    Some(all)
}

/// Returns the [`PREFIXES`] of the names, alone and combined.
fn prefixes(state: &StateDict) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut at = 0;
    while at < all.len() {
        for prefix in PREFIXES {
            let longer = format!("{}{prefix}", all[at]);
            let nested = longer.matches('.').count() <= MAX_NESTED;
            if nested && state.iter().any(|(name, _)| name.starts_with(&longer)) {
                all.push(longer);
            }
        }
        at += 1;
    }
    all
}

/// Returns fastai's name for a variable of a model of this crate: `0.4.0.bn1.weight` for
/// `layer1.0.bn1.weight`, `0.0.3.weight` for `features.3.weight`, and `1.8.weight` for `head.8.weight`.
/// xresnet's children already have numbers, which get the prefix `0.`.
///
/// ```
/// use finetune::model::fastai_name;
///
/// assert_eq!(fastai_name("layer1.0.bn1.weight"), "0.4.0.bn1.weight");
/// assert_eq!(fastai_name("features.3.weight"), "0.0.3.weight");
/// assert_eq!(fastai_name("4.0.convpath.0.0.weight"), "0.4.0.convpath.0.0.weight");
/// assert_eq!(fastai_name("head.8.weight"), "1.8.weight");
/// assert_eq!(fastai_name("cls_token"), "cls_token");
/// ```
#[must_use]
pub fn fastai_name(name: &str) -> String {
    let Some((first, rest)) = name.split_once('.') else { return name.to_owned() };
    let place = match first {
        "conv1" | "features" => "0.0",
        "bn1" => "0.1",
        "layer1" => "0.4",
        "layer2" => "0.5",
        "layer3" => "0.6",
        "layer4" => "0.7",
        "head" => "1",
        number if number.parse::<u32>().is_ok() => return format!("0.{name}"),
        other => other,
    };
    format!("{place}.{rest}")
}

/// As [`fastai_name`], for a U-Net: the body is the first of its `layers`, and the names of the decoder are
/// fastai's already.
///
/// ```
/// use finetune::model::fastai_unet_name;
///
/// assert_eq!(fastai_unet_name("layer1.0.bn1.weight"), "layers.0.4.0.bn1.weight");
/// assert_eq!(fastai_unet_name("layers.4.shuf.0.0.weight"), "layers.4.shuf.0.0.weight");
/// ```
#[must_use]
pub fn fastai_unet_name(name: &str) -> String {
    if name.starts_with("layers.") {
        name.to_owned()
    } else {
        format!("layers.{}", fastai_name(name))
    }
}

//! torchvision's variable names of networks that are built with timm's names.

use crate::model::families::{BlockKind, Family};

/// Returns torchvision's name of a variable of a network of `family`.
pub(in crate::model) fn torchvision_name(family: &Family, name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match family {
        Family::Convnext(_) => convnext(&parts),
        Family::Vit(_) => vit(&parts),
        Family::Swin(_) => swin(&parts),
        Family::Regnet(_) => regnet(&parts),
        Family::Efficientnet(_) => inverted(family, &parts),
        _ => name.to_owned(),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(0)
}

fn convnext(parts: &[&str]) -> String {
    match parts {
        ["stem", rest @ ..] => format!("features.0.{}", rest.join(".")),
        ["stages", i, "downsample", rest @ ..] => {
            format!("features.{}.{}", 2 * number(i), rest.join("."))
        }
        ["stages", i, "blocks", j, rest @ ..] => {
            let inner = match rest {
                ["conv_dw", end] => format!("block.0.{end}"),
                ["norm", end] => format!("block.2.{end}"),
                ["mlp", "fc1", end] => format!("block.3.{end}"),
                ["mlp", "fc2", end] => format!("block.5.{end}"),
                ["gamma"] => "layer_scale".to_owned(),
                other => other.join("."),
            };
            format!("features.{}.{j}.{inner}", 2 * number(i) + 1)
        }
        ["head", "norm", end] => format!("classifier.0.{end}"),
        ["head", "fc", end] => format!("classifier.2.{end}"),
        other => other.join("."),
    }
}

fn vit(parts: &[&str]) -> String {
    match parts {
        ["patch_embed", "proj", end] => format!("conv_proj.{end}"),
        ["cls_token"] => "class_token".to_owned(),
        ["pos_embed"] => "encoder.pos_embedding".to_owned(),
        ["blocks", i, rest @ ..] => {
            let inner = match rest {
                ["norm1", end] => format!("ln_1.{end}"),
                ["attn", "qkv", end] => format!("self_attention.in_proj_{end}"),
                ["attn", "proj", end] => format!("self_attention.out_proj.{end}"),
                ["norm2", end] => format!("ln_2.{end}"),
                ["mlp", "fc1", end] => format!("mlp.0.{end}"),
                ["mlp", "fc2", end] => format!("mlp.3.{end}"),
                other => other.join("."),
            };
            format!("encoder.layers.encoder_layer_{i}.{inner}")
        }
        ["norm", end] => format!("encoder.ln.{end}"),
        ["head", end] => format!("heads.head.{end}"),
        other => other.join("."),
    }
}

fn swin(parts: &[&str]) -> String {
    match parts {
        ["patch_embed", "proj", end] => format!("features.0.0.{end}"),
        ["patch_embed", "norm", end] => format!("features.0.2.{end}"),
        ["layers", i, "downsample", rest @ ..] => {
            format!("features.{}.{}", 2 * number(i), rest.join("."))
        }
        ["layers", i, "blocks", j, rest @ ..] => {
            let inner = match rest {
                ["mlp", "fc1", end] => format!("mlp.0.{end}"),
                ["mlp", "fc2", end] => format!("mlp.3.{end}"),
                other => other.join("."),
            };
            format!("features.{}.{j}.{inner}", 2 * number(i) + 1)
        }
        ["head", "fc", end] => format!("head.{end}"),
        other => other.join("."),
    }
}

fn regnet(parts: &[&str]) -> String {
    let layer = |kind: &str, end: &str| format!("{}.{end}", usize::from(kind == "bn"));
    match parts {
        ["stem", kind, end] => format!("stem.{}", layer(kind, end)),
        ["head", "fc", end] => format!("fc.{end}"),
        [stage, block, rest @ ..] if stage.starts_with('s') => {
            let (i, j) = (number(&stage[1..]), number(block.get(1..).unwrap_or("")));
            let inner = match rest {
                ["conv1", kind, end] => format!("f.a.{}", layer(kind, end)),
                ["conv2", kind, end] => format!("f.b.{}", layer(kind, end)),
                ["conv3", kind, end] => format!("f.c.{}", layer(kind, end)),
                ["se", rest @ ..] => format!("f.se.{}", rest.join(".")),
                ["downsample", kind, end] => format!("proj.{}", layer(kind, end)),
                other => other.join("."),
            };
            format!("trunk_output.block{i}.block{i}-{}.{inner}", j.saturating_sub(1))
        }
        other => other.join("."),
    }
}

/// Translates names of EfficientNet, whose stages are lists, and MobileNetV2, whose blocks are one list.
fn inverted(family: &Family, parts: &[&str]) -> String {
    let kinds = family.block_kinds();
    let flat = family.is_mobilenet_v2();
    let place = if flat { "conv" } else { "block" };
    match parts {
        ["conv_stem", end] => format!("features.0.0.{end}"),
        ["bn1", end] => format!("features.0.1.{end}"),
        ["blocks", i, j, rest @ ..] => {
            let (i, j) = (number(i), number(j));
            let before: usize = kinds[..i].iter().map(Vec::len).sum();
            let number =
                if flat { format!("{}", before + j + 1) } else { format!("{}.{j}", i + 1) };
            format!("features.{number}.{place}.{}", inner(kinds[i][j], flat, rest))
        }
        ["conv_head", end] | ["bn2", end] => {
            let last = if flat { kinds.iter().map(Vec::len).sum() } else { kinds.len() } + 1;
            format!("features.{last}.{}.{end}", usize::from(parts[0] == "bn2"))
        }
        ["classifier", end] => format!("classifier.1.{end}"),
        other => other.join("."),
    }
}

/// Translates the name within a block. MobileNetV2's last convolution and its normalization are not nested.
fn inner(kind: BlockKind, flat: bool, rest: &[&str]) -> String {
    let order: &[&str] = match kind {
        BlockKind::Conv => &["conv"],
        BlockKind::Separable if flat => &["conv_dw", "conv_pw"],
        BlockKind::Separable => &["conv_dw", "se", "conv_pw"],
        BlockKind::Edge => &["conv_exp", "conv_pwl"],
        BlockKind::Inverted if flat => &["conv_pw", "conv_dw", "conv_pwl"],
        BlockKind::Inverted => &["conv_pw", "conv_dw", "se", "conv_pwl"],
    };
    match rest {
        ["se", layer, end] => {
            let at = order.iter().position(|name| *name == "se").unwrap_or(0);
            let layer = if *layer == "conv_reduce" { "fc1" } else { "fc2" };
            format!("{at}.{layer}.{end}")
        }
        [layer, end] => {
            let convs: Vec<usize> = (0..order.len()).filter(|i| order[*i] != "se").collect();
            let norm = layer.strip_prefix("bn").map(|n| number(n).saturating_sub(1));
            let at = match norm {
                Some(n) => convs.get(n).copied().unwrap_or(0),
                None => order.iter().position(|name| name == layer).unwrap_or(0),
            };
            let last = flat && at + 1 == order.len();
            if last {
                format!("{}.{end}", at + usize::from(norm.is_some()))
            } else {
                format!("{at}.{}.{end}", usize::from(norm.is_some()))
            }
        }
        other => other.join("."),
    }
}

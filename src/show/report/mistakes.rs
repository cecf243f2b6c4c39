//! The worst mistakes with their images.

use super::super::{
    figure::photo_url,
    grid::fitted,
    html::escaped,
    overlay::{beside, drawn, legend},
    seen::seen,
};
use crate::{
    data::DataLoader,
    error::Result,
    interpret::Interpretation,
    sample::{Target, Task},
};

/// The longer side of an image, in pixels.
const SIDE: u32 = 224;

/// Returns the `k` items with the largest losses as HTML.
pub(super) fn worst(interp: &Interpretation, loader: &DataLoader, k: usize) -> Result<String> {
    let top = interp.top_losses(k);
    let items: Vec<usize> = top.iter().map(|t| t.item).collect();
    let pictures = if loader.has_images() { seen(loader, &items)? } else { vec![] };
    let kept = interp.predictions();
    let mut html = String::new();
    for (i, top) in top.iter().enumerate() {
        let (is, said) = (&kept.targets[top.index], &kept.decoded[top.index]);
        let name = loader.dataset().name(top.item);
        let name = name.rsplit(['/', '\\']).next().unwrap_or(&name);
        let class = if matches!(kept.task, Task::Values { .. }) {
            "said"
        } else if is == said {
            "right"
        } else {
            "wrong"
        };
        let probability = match said {
            Target::Category(c) => kept.preds.get((top.index, *c)),
            _ => None,
        };
        let probability = probability.map_or_else(String::new, |p| format!(" with {p:.2}"));
        let image = match pictures.get(i) {
            Some(picture) => {
                let mut picture = drawn(picture, said, &kept.task)?;
                if kept.task.is_spatial() && *is != Target::None {
                    picture = beside(&drawn(&pictures[i], is, &kept.task)?, &picture)?;
                }
                let room = if kept.task.is_spatial() { (2 * SIDE, SIDE) } else { (SIDE, SIDE) };
                let url = photo_url(&fitted(&picture, room)?)?;
                format!("<img src=\"{url}\" alt=\"{}\">\n", escaped(name))
            }
            None => String::new(),
        };
        if kept.task.is_spatial() {
            html.push_str(&format!(
                "<figure>\n{image}<figcaption>target · prediction<br><span class=\"muted\">loss {:.2} \
                 · {}</span></figcaption>\n</figure>\n",
                top.loss,
                escaped(name),
            ));
            continue;
        }
        html.push_str(&format!(
            "<figure>\n{image}<figcaption>{}<br><span class=\"{class}\">predicted {}</span>\
             {probability}<br><span class=\"muted\">loss {:.2} · {}</span></figcaption>\n</figure>\n",
            escaped(&kept.task.words(is)),
            escaped(&kept.task.words(said)),
            top.loss,
            escaped(name),
        ));
    }
    let class = if kept.task.is_spatial() { "worst pairs" } else { "worst" };
    Ok(format!("{}<div class=\"{class}\">\n{html}</div>\n", colors(&kept.task)))
}

/// Returns the names and colors of the targets as HTML; empty if targets are not drawn in colors.
fn colors(task: &Task) -> String {
    let one = |(name, [r, g, b]): (String, [u8; 3])| {
        let square = format!("<span style=\"background: rgb({r} {g} {b})\"></span>");
        format!("{square}{}", escaped(&name))
    };
    let names: Vec<String> = legend(task).into_iter().map(one).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("<p class=\"legend\">{}</p>\n", names.join(" "))
}

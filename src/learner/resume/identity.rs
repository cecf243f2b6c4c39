//! Computes the fingerprint of a training.

use super::fingerprint::{Difference, Fingerprint};
use crate::{
    data::digest,
    error::Result,
    learner::{Training, training::stage::Stage},
    optim::{Hyper, Schedule},
};
use tch::Device;

/// Returns the fingerprint of a training with these stages, callbacks and columns of the table of epochs.
/// Without `stages`, properties of the policy are left out.
///
/// # Errors
/// Errors of reading a label.
pub(super) fn fingerprint(
    t: &Training,
    stages: Option<&[Stage]>,
    callbacks: &[String],
    columns: &[String],
) -> Result<Fingerprint> {
    use Difference as D;
    let data = t.dls.fingerprint()?;
    let mut callbacks = callbacks.to_vec();
    callbacks.sort();
    let spec = t.loss.spec().and_then(|spec| serde_json::to_string(&spec).ok());
    let mut all = vec![];
    if let Some(stages) = stages {
        let epochs = stages.iter().map(|s| s.course.epochs.to_string());
        let rates = stages.iter().map(learning_rates);
        all.push((D::Epochs, epochs.collect::<Vec<_>>().join(" + ")));
        all.push((D::LearningRate, rates.collect::<Vec<_>>().join(" + ")));
        all.push((D::Policy, rest(stages)));
    }
    all.extend([
        (D::Items, data.items),
        (D::Labels, data.labels),
        (D::Vocabulary, data.vocab),
        (D::Split, data.split),
        (D::Batches, data.batches),
        (D::ItemTransforms, data.item_tfms),
        (D::BatchTransforms, data.batch_tfms),
        (D::Model, model(t)),
        (D::Optimizer, t.opt.description()),
        (D::Loss, spec.unwrap_or_else(|| t.loss.name().to_owned())),
        (D::Metrics, columns.join(", ")),
        (D::Callbacks, none_if_empty(&callbacks.join(", "))),
        (D::Seed, t.seed.0.to_string()),
        (D::Precision, format!("{:?}", t.precision)),
        (D::Device, device(t.model.device()).to_owned()),
    ]);
    Ok(Fingerprint::new(all))
}

fn none_if_empty(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

fn learning_rates(stage: &Stage) -> String {
    let set = stage.course.set.iter().filter(|(hyper, _)| *hyper == Hyper::Lr);
    let all: Vec<String> =
        set.flat_map(|(_, values)| values).map(|value| format!("{value:e}")).collect();
    none_if_empty(&all.join(", "))
}

/// Describes the stages except for epochs and learning rates. A learning-rate schedule is identified by its
/// shape, which does not change if all rates are multiplied by a constant.
fn rest(stages: &[Stage]) -> String {
    let mut texts = vec![];
    for stage in stages {
        let course = &stage.course;
        let set = course.set.iter().filter(|(hyper, _)| *hyper != Hyper::Lr);
        let mut text: Vec<String> =
            set.map(|(hyper, values)| format!("{hyper:?} {values:?}")).collect();
        let schedules: Vec<String> = course
            .schedules
            .iter()
            .map(|(hyper, each)| match hyper {
                Hyper::Lr => each.first().map(Schedule::shape).unwrap_or_default(),
                _ => format!("{hyper:?} {each:?}"),
            })
            .collect();
        text.push(format!("schedule {}", digest(&schedules)));
        text.extend(stage.freeze_to.map(|first| format!("trained from group {first}")));
        if course.start_epoch > 0 {
            text.push(format!("from epoch {}", course.start_epoch));
        }
        if course.reset_opt {
            text.push("new optimizer".to_owned());
        }
        texts.push(text.join(", "));
    }
    texts.join(" + ")
}

fn model(t: &Training) -> String {
    let spec = t.model.spec().and_then(|spec| serde_json::to_string(spec).ok());
    let params = t.model.params();
    let each = params.iter().map(|p| format!("{} {:?} {}", p.name, p.tensor.size(), p.group));
    let digest = digest(each);
    let count = params.len();
    match spec {
        Some(spec) => format!("{spec} with {count} parameters, {digest}"),
        None => format!("{count} parameters, {digest}"),
    }
}

fn device(device: Device) -> &'static str {
    match device {
        Device::Cpu => "CPU",
        Device::Cuda(_) => "CUDA",
        Device::Mps => "MPS",
        Device::Vulkan => "Vulkan",
    }
}

//! The configuration of a training and its environment.

use crate::{data::DataLoader, learner::Learner, sample::Task, sys};
use std::{
    env::consts::{ARCH, OS},
    fmt::Debug,
    thread,
};

fn fact(name: &str, what: impl Into<String>) -> (String, String) {
    (name.to_owned(), what.into())
}

/// Formats a number with commas between thousands: 21,797,672.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let from_end = |(i, c): (usize, char)| {
        let comma = i > 0 && (digits.len() - i).is_multiple_of(3);
        if comma { format!(",{c}") } else { c.to_string() }
    };
    digits.chars().enumerate().map(from_end).collect()
}

fn list<T: Debug>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(|t| format!("{t:?}")).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

/// Describes the model, its data and its training.
pub(super) fn configuration(learn: &mut Learner) -> Vec<(String, String)> {
    let t = learn.training_mut();
    let (model, dls) = (&t.model, &t.dls);
    let weights = |trainable: bool| -> usize {
        let some = model.params().iter().filter(|p| !trainable || p.tensor.requires_grad());
        some.map(|p| p.tensor.numel()).sum()
    };
    let side = |loader: &DataLoader| {
        format!("{} items, batches of {}", grouped(loader.len()), loader.bs())
    };
    let task = match dls.task() {
        Task::Category { vocab } => format!("one of {} categories", vocab.len()),
        Task::Categories { vocab } => format!("any of {} categories", vocab.len()),
        Task::Values { n } => format!("{n} numbers"),
        Task::Mask { codes, .. } => format!("a mask of {} codes", codes.len()),
        Task::Points { n } => format!("{n} points"),
        Task::Boxes { vocab } => format!("boxes of {} classes", vocab.len()),
        other => format!("{other:?}"),
    };
    let architecture = model.spec().map_or_else(|| "custom".into(), |s| format!("{s:?}"));
    let hypers = t.opt.hypers().last().map_or_else(String::new, |h| {
        format!(
            "momentum {}, momentum of squares {}, epsilon {:e}, weight decay {}",
            h.mom, h.sqr_mom, h.eps, h.wd
        )
    });
    vec![
        fact("target", task),
        fact("training", side(dls.train())),
        fact("validation", side(dls.valid())),
        fact("item transforms", list(dls.item_tfms())),
        fact("batch transforms", list(dls.batch_tfms())),
        fact("model", architecture),
        fact(
            "weights",
            format!(
                "{}, of which {} are trainable",
                grouped(weights(false)),
                grouped(weights(true))
            ),
        ),
        fact("parameter groups", model.groups().to_string()),
        fact("loss", t.loss.name()),
        fact("optimizer", hypers),
        fact("precision", format!("{:?}", t.precision)),
        fact("total steps", grouped(t.at.step as usize)),
        fact("seed", t.seed.0.to_string()),
        fact("device", format!("{:?}", model.device())),
    ]
}

/// Describes the versions and the machine.
pub(super) fn environment() -> Vec<(String, String)> {
    let threads = thread::available_parallelism().map_or_else(|_| "?".into(), |n| n.to_string());
    vec![
        fact("finetune", env!("CARGO_PKG_VERSION")),
        fact("libtorch", sys::version()),
        fact("GPU", format!("{:?}", sys::cuda())),
        fact("system", format!("{OS}, {ARCH}")),
        fact(
            "processor",
            format!("{threads} threads, {} used by libtorch", tch::get_num_threads()),
        ),
        fact("vector instructions", sys::capability()),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_numbers_are_grouped() {
        let texts = [0, 999, 1000, 21_797_672].map(super::grouped);
        assert_eq!(texts, ["0", "999", "1,000", "21,797,672"]);
    }
}

//! Compares with values computed by fastai 2.8.12, one trial per topic.
//!
//! The values come from the folder that `FINETUNE_GOLDEN_DIR` names, otherwise from `tests/golden/fastai`. A topic
//! without files fails; it is skipped, by name, only if `FINETUNE_GOLDEN_DIR` is set. `make golden` runs
//! only this test; each topic prints its cases, its largest error with the tolerance of that comparison,
//! and the intended differences.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program of its own: it fails by panics and prints its lines"
)]
#![allow(dead_code, reason = "the frame offers more than each set of topics uses")]

#[path = "golden/affine.rs"]
mod affine;
#[path = "golden/batch_callbacks.rs"]
mod batch_callbacks;
#[path = "golden/callbacks.rs"]
mod callbacks;
#[path = "golden/frame.rs"]
mod frame;
#[path = "golden/interp.rs"]
mod interp;
#[path = "golden/labels.rs"]
mod labels;
#[path = "golden/learner.rs"]
mod learner;
#[path = "golden/lighting.rs"]
mod lighting;
#[path = "golden/losses.rs"]
mod losses;
#[path = "golden/lr_find.rs"]
mod lr_find;
#[path = "golden/mask.rs"]
mod mask;
#[path = "golden/metrics.rs"]
mod metrics;
#[path = "golden/models.rs"]
mod models;
#[path = "golden/optim.rs"]
mod optim;
#[path = "golden/predict.rs"]
mod predict;
#[path = "golden/replay.rs"]
mod replay;
#[path = "golden/resize.rs"]
mod resize;
#[path = "golden/rrc_gpu.rs"]
mod rrc_gpu;
#[path = "golden/schedules.rs"]
mod schedules;
#[path = "golden/shapes.rs"]
mod shapes;
#[path = "golden/spatial.rs"]
mod spatial;
#[path = "golden/split.rs"]
mod split;
#[path = "golden/tiny.rs"]
mod tiny;
#[path = "golden/trackers.rs"]
mod trackers;
#[path = "golden/unet.rs"]
mod unet;

use frame::{Golden, Report};
use libtest_mimic::{Arguments, Trial};

/// A topic, its check, and the number of comparisons with the values in the repository.
type Topic = (&'static str, fn(&Golden, &mut Report), usize);

const TOPICS: &[Topic] = &[
    ("split", split::check, 64),
    ("labels", labels::check, 308),
    ("resize", resize::check, 418),
    ("affine", affine::check, 728),
    ("lighting", lighting::check, 110),
    ("rrc_gpu", rrc_gpu::check, 258),
    ("schedules", schedules::check, 428),
    ("losses", losses::check, 618),
    ("metrics", metrics::check, 330),
    ("optim", optim::check, 753),
    ("learner", learner::check, 354),
    ("lr_find", lr_find::check, 194),
    ("callbacks", callbacks::check, 2718),
    ("interp", interp::check, 132),
    ("predict", predict::check, 157),
    ("models", models::check, 2075),
    ("mask", mask::check, 483),
    ("points", shapes::check_points, 199),
    ("boxes", shapes::check_boxes, 129),
    ("unet", unet::check, 379),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // libtorch has one random generator per process, and some topics replay its draws.
    arguments.test_threads = Some(1);
    let trials = TOPICS.iter().map(|&(topic, check, comparisons)| {
        let golden = Golden::open(topic);
        let missing = golden.is_none() && !frame::is_carried();
        if missing && !arguments.list {
            println!("{topic}: skipped, no {topic}.json in {}", frame::folder().display());
        }
        Trial::test(topic, move || frame::run(topic, golden, check, comparisons))
            .with_ignored_flag(missing)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

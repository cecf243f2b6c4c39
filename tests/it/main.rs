//! Tests through the public API, one module per subject.
//!
//! They are one program, so that libtorch is linked once. Modules start separate processes for tests
//! that need one. Tests that compare whole trainings bit for bit are in `tests/exact`.

#![allow(clippy::unwrap_used, reason = "a test fails by panics")]

mod annotations;
mod auto_augment;
mod bad_files;
mod blocks;
mod cache;
mod check;
mod corpus;
mod decode;
mod disk;
#[cfg(unix)]
mod distributed;
mod download;
mod families;
mod fit;
#[cfg(feature = "show")]
mod folder;
#[cfg(unix)]
mod gpu;
#[cfg(feature = "show")]
mod guide;
mod hostile;
mod interpret;
mod layouts;
mod loader;
mod losses;
mod mask_files;
mod metrics;
mod old_files;
mod onnx;
mod pets;
mod pets_example;
#[cfg(feature = "show")]
mod pictures;
mod plan;
mod pretrained;
mod probe;
mod process;
mod pth;
mod recipes;
mod reports_data;
mod served;
mod server;
#[cfg(feature = "show")]
mod show;
mod spatial;
mod structure;
mod texts;
mod training_reports;
mod untar;
mod walkthrough;

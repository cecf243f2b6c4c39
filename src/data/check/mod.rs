//! Checks of the data before training.

pub(in crate::data) mod near;
pub(in crate::data) mod report;
pub(in crate::data) mod scan;
pub(in crate::data) mod verify;

pub use {
    report::{CheckReport, ClassCount, Duplicates, Finding, NearDuplicate},
    verify::verify_images,
};

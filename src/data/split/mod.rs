//! Splitting items into training and validation.

pub(in crate::data) mod classes;
pub(in crate::data) mod named;
pub(in crate::data) mod splitter;
pub(in crate::data) mod torch_rng;

pub use {
    classes::{GroupSplitter, TrainTestSplitter},
    named::{
        EndSplitter, FileSplitter, FuncSplitter, GrandparentSplitter, IndexSplitter, MaskSplitter,
    },
    splitter::{RandomSplitter, RandomSubsetSplitter, Splits, Splitter},
    torch_rng::TorchRng,
};

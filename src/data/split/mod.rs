//! Splits items into training and validation.

pub(in crate::data) mod group;
pub(in crate::data) mod named;
pub(in crate::data) mod splitter;
pub(in crate::data) mod stratified;
pub(in crate::data) mod torch_rng;

pub use {
    group::GroupSplitter,
    named::{
        EndSplitter, FileSplitter, FuncSplitter, GrandparentSplitter, IndexSplitter, MaskSplitter,
    },
    splitter::{RandomSplitter, RandomSubsetSplitter, Splits, Splitter},
    stratified::TrainTestSplitter,
    torch_rng::TorchRng,
};

//! The native layer: calls into libtorch and the operating system that tch does not offer. The only module of
//! this crate with `unsafe` code.

#![allow(
    unsafe_code,
    reason = "unsafe code is confined to this module; each use says why it is sound"
)]

#[cfg(not(feature = "doc-only"))]
mod c10d;
#[cfg(feature = "doc-only")]
#[path = "absent_c10d.rs"]
mod c10d;
mod caught;
mod cuda;
mod fractions;
mod graph;
mod list;
mod map;
mod memory;
mod message;
#[cfg(not(feature = "doc-only"))]
mod native;
#[cfg(feature = "doc-only")]
#[path = "absent.rs"]
mod native;
mod pinned;
mod processor;
#[cfg(not(feature = "doc-only"))]
mod recompute;
mod slots;
mod threads;
mod trace;

pub(crate) use c10d::{Group, Interface, Reducer, Store, set_grads};
pub(crate) use caught::{caught, caught_tensor, defined};
pub use cuda::{CudaStatus, cuda};
pub(crate) use cuda::{check_device, folder};
pub(crate) use fractions::fractions;
pub(crate) use graph::{Argument, TracedGraph, TracedNode, TracedValue, graph};
pub use list::TensorList;
pub(crate) use list::{AdamStep, adamw, clear_grads, grads, sgd, unscale};
pub(crate) use map::Mapped;
pub(crate) use memory::KeptMemory;
#[cfg(feature = "doc-only")]
pub(crate) use native::recomputed;
pub(crate) use native::{Autocast, capability, pinned, tensor_lent, version};
pub(crate) use pinned::pinned_bytes;
pub(crate) use processor::{has_bf16, processor_features};
#[cfg(not(feature = "doc-only"))]
pub(crate) use recompute::recomputed;
pub(crate) use slots::Slots;
pub(crate) use threads::share_processors;
pub(crate) use trace::{BATCHES, TraceOptions, trace};

//! Files of named tensors: what `torch.save` writes, and safetensors.
//!
//! Both are read from memory that is mapped, checked before anything is allocated by what they claim,
//! and without running any code that they contain.

mod globals;
mod pickle;
mod pth;
mod replace;
mod resolve;
mod safetensors;
mod storage;
mod unpickle;
mod value;

pub use {
    pth::{read_pth, read_pth_bytes, state_dict, write_pth},
    safetensors::{Metadata, read_safetensors, read_safetensors_bytes, write_safetensors},
    value::Value,
};

/// What keeps a pickle from being read, for an error that names the file.
type Why = String;

/// Tensors by name.
pub type StateDict = Vec<(String, tch::Tensor)>;

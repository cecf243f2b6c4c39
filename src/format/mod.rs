//! Files of named tensors: `torch.save` and safetensors.
//!
//! Both are read from mapped memory. Sizes that a file claims are checked before memory is
//! allocated, and no code in a file is run.

mod globals;
mod pickle;
mod pth;
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

/// The reason why a pickle cannot be read; the caller adds the name of the file.
type Why = String;

/// Tensors by name.
pub type StateDict = Vec<(String, tch::Tensor)>;

//! The global names that a pickle of tensors may use. All others are rejected by name.

use super::{Why, storage::Dtype};

/// A known name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// fastcore's list, in which fastai stores hyperparameters.
    L,
    /// A tensor over a typed storage.
    Tensor,
    /// A tensor over bytes, with its type stored separately.
    TensorV3,
    /// A tensor that is a parameter, possibly with attributes.
    Parameter,
    /// The type of a storage.
    Storage(Dtype),
    /// A storage of bytes.
    UntypedStorage,
    /// A data type.
    Dtype(Dtype),
    /// `torch.Size`.
    Size,
    /// `torch.device`.
    Device,
    /// A numpy scalar.
    NumpyScalar,
    /// The type of a numpy scalar.
    NumpyDtype,
    /// `_codecs.encode`: bytes in Python 2's protocol, written as text.
    Encode,
}

impl Global {
    /// Returns the meaning of a name in a pickle.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, Why> {
        let found = match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("fastcore.foundation", "L") => Some(Self::L),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::Tensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::TensorV3),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Self::Parameter)
            }
            ("torch", "Size") => Some(Self::Size),
            ("torch", "device") => Some(Self::Device),
            ("torch.storage", "UntypedStorage" | "_UntypedStorage") => Some(Self::UntypedStorage),
            ("torch" | "torch.cuda" | "torch.storage", _) => match name.strip_suffix("Storage") {
                Some(kind) => Dtype::of_storage(kind).map(Self::Storage),
                None => Dtype::named(name).map(Self::Dtype),
            },
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => {
                Some(Self::NumpyScalar)
            }
            ("numpy", "dtype") => Some(Self::NumpyDtype),
            ("_codecs", "encode") => Some(Self::Encode),
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "it requests `{module}.{name}`, which is not a tensor, dictionary or plain value: it is \
                 rejected, and none of its code was run. If you trust the file, save what you need \
                 from it with Python: torch.save(model.state_dict(), file)"
            )
        })
    }

    /// Returns the bytes of one element, for a storage type.
    pub(super) fn unit(self) -> Option<usize> {
        match self {
            Self::Storage(dtype) => Some(dtype.size()),
            Self::UntypedStorage => Some(1),
            _ => None,
        }
    }

    /// Returns the name for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "an ordered dictionary",
            Self::L => "a fastcore list",
            Self::Tensor | Self::TensorV3 => "a tensor",
            Self::Parameter => "a parameter",
            Self::Storage(_) | Self::UntypedStorage => "a storage type",
            Self::Dtype(_) => "a data type",
            Self::Size => "a size",
            Self::Device => "a device",
            Self::NumpyScalar => "a numpy scalar",
            Self::NumpyDtype => "a numpy data type",
            Self::Encode => "bytes",
        }
    }
}

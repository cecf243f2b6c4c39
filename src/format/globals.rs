//! The global names that a pickle of tensors may use. All others are refused by name.

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
    /// A tensor over bytes, with its type beside them.
    TensorV3,
    /// A tensor that is a parameter, perhaps with attributes.
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
    /// A single number of numpy's.
    NumpyScalar,
    /// The type of one.
    NumpyDtype,
    /// `_codecs.encode`: bytes in Python 2's protocol, written as a text.
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
                "it asks for `{module}.{name}`, which is no tensor, dictionary or plain value: it is \
                 refused, and nothing of it was run. Where the file can be trusted, save what you need \
                 of it with Python: torch.save(model.state_dict(), file)"
            )
        })
    }

    /// For a type of storage, the bytes of one element.
    pub(super) fn unit(self) -> Option<usize> {
        match self {
            Self::Storage(dtype) => Some(dtype.size()),
            Self::UntypedStorage => Some(1),
            _ => None,
        }
    }

    /// Its name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OrderedDict => "an ordered dictionary",
            Self::L => "a list of fastcore's",
            Self::Tensor | Self::TensorV3 => "a tensor",
            Self::Parameter => "a parameter",
            Self::Storage(_) | Self::UntypedStorage => "a type of storage",
            Self::Dtype(_) => "a data type",
            Self::Size => "a size",
            Self::Device => "a device",
            Self::NumpyScalar => "a number of numpy's",
            Self::NumpyDtype => "a data type of numpy's",
            Self::Encode => "bytes",
        }
    }
}

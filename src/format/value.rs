//! Values of a pickle.

use tch::Tensor;

/// The content of a file of `torch.save`: tensors, dictionaries and plain values, without code.
#[derive(Debug)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float, or a numpy scalar.
    Float(f64),
    /// A text, or the name of a data type or a device.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list, a tuple, a `torch.Size`, or fastcore's `L`.
    List(Vec<Self>),
    /// A dictionary, ordered or not, in its order.
    Dict(Vec<(Self, Self)>),
    /// A tensor, or a parameter. Tensors of the same storage share it.
    Tensor(Tensor),
}

impl Value {
    /// Returns the value of the text key `key` in a dictionary.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().find(|(k, _)| matches!(k, Self::Str(k) if k == key)).map(|(_, v)| v)
    }

    /// Returns a number, also if it is an integer or a tensor with one element.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Tensor(t) if t.numel() == 1 => f64::try_from(t.to_kind(tch::Kind::Double)).ok(),
            _ => None,
        }
    }

    /// Returns the values of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(values) = self { Some(values) } else { None }
    }

    /// Returns the entries of a dictionary.
    #[must_use]
    pub fn as_dict(&self) -> Option<&[(Self, Self)]> {
        if let Self::Dict(entries) = self { Some(entries) } else { None }
    }
}

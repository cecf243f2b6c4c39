//! Data types, and the bytes of storages as flat tensors.

use super::Why;
use tch::{Kind, Tensor};

/// The type of a storage's elements. Types that tch does not support are widened when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    /// A type that tch supports.
    Known(Kind),
    U16,
    U32,
    U64,
}

const NAMES: [(&str, &str, Dtype); 20] = [
    ("Float", "float32", Dtype::Known(Kind::Float)),
    ("Double", "float64", Dtype::Known(Kind::Double)),
    ("Half", "float16", Dtype::Known(Kind::Half)),
    ("BFloat16", "bfloat16", Dtype::Known(Kind::BFloat16)),
    ("Byte", "uint8", Dtype::Known(Kind::Uint8)),
    ("Char", "int8", Dtype::Known(Kind::Int8)),
    ("Short", "int16", Dtype::Known(Kind::Int16)),
    ("Int", "int32", Dtype::Known(Kind::Int)),
    ("Long", "int64", Dtype::Known(Kind::Int64)),
    ("Bool", "bool", Dtype::Known(Kind::Bool)),
    ("ComplexHalf", "complex32", Dtype::Known(Kind::ComplexHalf)),
    ("ComplexFloat", "complex64", Dtype::Known(Kind::ComplexFloat)),
    ("ComplexDouble", "complex128", Dtype::Known(Kind::ComplexDouble)),
    ("Float8_e5m2", "float8_e5m2", Dtype::Known(Kind::Float8e5m2)),
    ("Float8_e4m3fn", "float8_e4m3fn", Dtype::Known(Kind::Float8e4m3fn)),
    ("Float8_e5m2fnuz", "float8_e5m2fnuz", Dtype::Known(Kind::Float8e5m2fnuz)),
    ("Float8_e4m3fnuz", "float8_e4m3fnuz", Dtype::Known(Kind::Float8e4m3fnuz)),
    ("UInt16", "uint16", Dtype::U16),
    ("UInt32", "uint32", Dtype::U32),
    ("UInt64", "uint64", Dtype::U64),
];

impl Dtype {
    /// Returns the type by the start of its storage class name: `Float` of `FloatStorage`.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        NAMES.iter().find(|(storage, ..)| *storage == name).map(|(.., dtype)| *dtype)
    }

    /// Returns the type by torch's name: `float32`.
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, dtype, _)| *dtype == name).map(|(.., dtype)| *dtype)
    }

    /// Returns torch's name.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(.., dtype)| *dtype == self).map_or("unknown", |(_, name, _)| name)
    }

    /// Returns the name of the storage class, if there is one.
    pub(super) fn storage_name(kind: Kind) -> Option<&'static str> {
        let known = Self::Known(kind);
        let found = NAMES[..13].iter().find(|(.., dtype)| *dtype == known);
        found.map(|(storage, ..)| *storage).filter(|name| *name != "ComplexHalf")
    }

    /// Returns the number of bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
            Self::U64 => 8,
            Self::Known(kind) => kind.elt_size_in_bytes(),
        }
    }

    /// Returns a flat tensor of little-endian elements. Unsigned 16- and 32-bit integers are widened,
    /// booleans become 0 or 1.
    pub(super) fn flat(self, bytes: &[u8]) -> Result<Tensor, Why> {
        let n = (bytes.len() / self.size()) as i64;
        let refused = |e: tch::TchError| format!("libtorch: {e}");
        match self {
            Self::Known(Kind::Bool) => {
                let clean: Vec<u8> = bytes.iter().map(|b| u8::from(*b != 0)).collect();
                Tensor::f_from_data_size(&clean, &[n], Kind::Bool).map_err(refused)
            }
            Self::Known(kind) => Tensor::f_from_data_size(bytes, &[n], kind).map_err(refused),
            Self::U16 => {
                let wide =
                    bytes.as_chunks::<2>().0.iter().map(|b| i32::from(u16::from_le_bytes(*b)));
                Tensor::f_from_slice(&wide.collect::<Vec<i32>>()).map_err(refused)
            }
            Self::U32 => {
                let wide =
                    bytes.as_chunks::<4>().0.iter().map(|b| i64::from(u32::from_le_bytes(*b)));
                Tensor::f_from_slice(&wide.collect::<Vec<i64>>()).map_err(refused)
            }
            Self::U64 => {
                let wide = bytes.as_chunks::<8>().0.iter().map(|b| {
                    i64::try_from(u64::from_le_bytes(*b))
                        .map_err(|_| "a uint64 value exceeds the maximum int64".to_owned())
                });
                Tensor::f_from_slice(&wide.collect::<Result<Vec<i64>, _>>()?).map_err(refused)
            }
        }
    }
}

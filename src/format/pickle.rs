//! Writes values as a pickle, as `torch.save` does.

use super::{storage::Dtype, value::Value};
use crate::error::{Error, Result};
use tch::{Device, Tensor};

/// Returns the pickle of a value, and its tensors in the order of their storages: contiguous, on the CPU.
pub(super) fn pickle(value: &Value) -> Result<(Vec<u8>, Vec<Tensor>)> {
    let mut writer = Writer { out: vec![0x80, 2], storages: vec![] };
    writer.value(value)?;
    writer.out.push(b'.');
    Ok((writer.out, writer.storages))
}

struct Writer {
    out: Vec<u8>,
    storages: Vec<Tensor>,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(yes) => self.out.push(if *yes { 0x88 } else { 0x89 }),
            Value::Int(n) => self.int(*n),
            Value::Float(x) => {
                self.out.push(b'G');
                self.out.extend(x.to_be_bytes());
            }
            Value::Str(s) => self.text(s),
            Value::Bytes(bytes) => {
                // Protocol 2 has no bytes: use a text that Python encodes.
                self.global("_codecs", "encode");
                self.text(&bytes.iter().map(|b| char::from(*b)).collect::<String>());
                self.text("latin1");
                self.out.extend([0x86, b'R']);
            }
            Value::List(values) => {
                self.out.extend(b"](");
                for v in values {
                    self.value(v)?;
                }
                self.out.push(b'e');
            }
            Value::Dict(entries) => {
                self.out.extend(b"}(");
                for (key, value) in entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                self.out.push(b'u');
            }
            Value::Tensor(tensor) => self.tensor(tensor)?,
        }
        Ok(())
    }

    fn int(&mut self, n: i64) {
        if let Ok(small) = i32::try_from(n) {
            self.out.push(b'J');
            self.out.extend(small.to_le_bytes());
        } else {
            self.out.extend([0x8a, 8]);
            self.out.extend(n.to_le_bytes());
        }
    }

    fn text(&mut self, s: &str) {
        self.out.push(b'X');
        self.out.extend((s.len() as u32).to_le_bytes());
        self.out.extend(s.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.out.push(b'c');
        self.out.extend(format!("{module}\n{name}\n").bytes());
    }

    /// Writes `_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let kind = tensor.f_kind()?;
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let class = Dtype::storage_name(kind).ok_or_else(|| {
            let why = format!("PyTorch has no storage class for {kind:?}");
            Error::unsupported("write_pth", why)
        })?;
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.out.extend(b"((");
        self.text("storage");
        self.global("torch", &format!("{class}Storage"));
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(tensor.numel() as i64);
        self.out.extend(b"tQ");
        self.int(0);
        for sizes in [tensor.size(), tensor.stride()] {
            self.out.push(b'(');
            sizes.iter().for_each(|n| self.int(*n));
            self.out.push(b't');
        }
        self.out.push(0x89);
        self.global("collections", "OrderedDict");
        self.out.extend(b")RtR");
        self.storages.push(tensor);
        Ok(())
    }
}

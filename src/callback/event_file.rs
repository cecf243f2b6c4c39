//! TensorBoard event files: records framed by lengths and checksums, each a protobuf message. Sources:
//! TensorFlow's [record format](https://www.tensorflow.org/tutorials/load_data/tfrecord) and
//! [`event.proto`](https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto).

use crate::{
    disk::Appender,
    error::{Error, Result},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The maximum number of buffered bytes.
const BUFFER: usize = 1 << 16;

/// An event file being written.
#[derive(Debug)]
pub(super) struct EventFile {
    out: Appender,
    /// Complete records that have not been written yet.
    pending: Vec<u8>,
}

impl EventFile {
    /// Creates a file in `folder`, which is created if it is missing. `fit` is the name of the run and the
    /// step at which the fit starts: if the fit is restarted, it overwrites the same file.
    pub(super) fn create(folder: &Path, fit: Option<(&str, u64)>) -> Result<Self> {
        let seconds = now() as u64;
        if let Some((run, step)) = fit {
            let run: String = run
                .chars()
                .map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' })
                .collect();
            let ending = format!(".finetune.{run}-{step}");
            let path = match ending_in(folder, &ending)? {
                Some(path) => path,
                None => folder.join(format!("events.out.tfevents.{seconds:010}{ending}")),
            };
            return Self::begin(Appender::open(&path, Some(0))?);
        }
        // Runs that start in the same second have separate files.
        for n in 0.. {
            let name = format!("events.out.tfevents.{seconds:010}.finetune.{n}");
            if let Some(out) = Appender::create_new(&folder.join(name))? {
                return Self::begin(out);
            }
        }
        Err(Error::config("TensorBoard", "there is no unused file name"))
    }

    fn begin(out: Appender) -> Result<Self> {
        let mut events = Self { out, pending: vec![] };
        events.record(&event(now(), 0, &field(3, b"brain.Event:2")))?;
        events.flush()?;
        Ok(events)
    }

    /// Continues a file after its first `bytes` bytes. Returns `None` if it has fewer.
    pub(super) fn resume(path: &Path, bytes: u64) -> Result<Option<Self>> {
        if !Appender::has(path, bytes) {
            return Ok(None);
        }
        Ok(Some(Self { out: Appender::open(path, Some(bytes))?, pending: vec![] }))
    }

    /// Writes all records and syncs them. Returns the name of the file, and its length in bytes.
    pub(super) fn position(&mut self) -> Result<(String, u64)> {
        self.flush()?;
        self.out.sync()?;
        let name = self.out.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, self.out.len()))
    }

    /// Writes named values of a step.
    pub(super) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = vec![];
        for (name, value) in values {
            let mut one = field(1, name.as_bytes());
            one.push(2 << 3 | 5); // simple_value: 32 bits
            one.extend((*value as f32).to_le_bytes());
            summary.extend(field(1, &one));
        }
        self.record(&event(now(), step, &field(5, &summary)))
    }

    /// Writes all records to the file, so that a reader sees them.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.out.append(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked(&length), data, &masked(data)];
        parts.iter().for_each(|part| self.pending.extend(*part));
        if self.pending.len() < BUFFER { Ok(()) } else { self.flush() }
    }
}

/// Returns the file in `folder` whose name ends in `ending`, if there is one.
fn ending_in(folder: &Path, ending: &str) -> Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(Error::io(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(folder))?;
        if entry.file_name().to_string_lossy().ends_with(ending) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Encodes an `Event` with an additional field.
fn event(time: f64, step: u64, what: &[u8]) -> Vec<u8> {
    let mut all = vec![1 << 3 | 1]; // wall_time: 64 bits
    all.extend(time.to_le_bytes());
    all.push(2 << 3); // step: a varint
    varint(step, &mut all);
    all.extend(what);
    all
}

/// Encodes a protobuf field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut all);
    all.extend(bytes);
    all
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Computes the checksum of the record format: CRC-32C, rotated and offset.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Computes CRC-32C byte by byte: records are short.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut c, mut bit) = (i as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |c, b| c >> 8 ^ TABLE[((c ^ u32::from(*b)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_has_its_published_value() {
        // RFC 3720, appendix B.4, and the usual check of nine digits.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// Decodes a protobuf message into numbered fields: bytes, or the bits of a number.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut n, mut shift) = (0, 0);
            loop {
                let (byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                n |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return n;
                }
            }
        }
        let mut all = vec![];
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => varint(&mut bytes).to_le_bytes().to_vec(),
                kind => {
                    let n = match kind {
                        1 => 8,
                        5 => 4,
                        _ => varint(&mut bytes) as usize,
                    };
                    let (value, rest) = bytes.split_at(n);
                    bytes = rest;
                    value.to_vec()
                }
            };
            all.push((tag >> 3, value));
        }
        all
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), None).unwrap();
        file.scalars(300, &[("loss/train", 0.5), ("lr", 1e-3)]).unwrap();
        file.flush().unwrap();
        EventFile::create(folder.path(), None).expect("another run in the same second");

        let bytes = std::fs::read(file.out.path()).unwrap();
        let (mut rest, mut records) = (&bytes[..], vec![]);
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked(data));
            records.push(fields(data));
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 2);
        assert_eq!(records[0][2], (3, b"brain.Event:2".to_vec()));
        assert_eq!(records[1][1], (2, 300_u64.to_le_bytes().to_vec()));
        let values: Vec<_> = fields(&records[1][2].1).iter().map(|(_, v)| fields(v)).collect();
        assert_eq!(values[0], [(1, b"loss/train".to_vec()), (2, 0.5_f32.to_le_bytes().to_vec())]);
        assert_eq!(values[1], [(1, b"lr".to_vec()), (2, 1e-3_f32.to_le_bytes().to_vec())]);
    }
}

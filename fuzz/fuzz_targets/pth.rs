//! Reading a `.pth` file with any content succeeds or returns an error.
//!
//! The checksums of the zip would stop most mutations, so every second input is only the pickle, which
//! is put into a zip here.
#![no_main]

#[allow(dead_code, unused_imports, reason = "the readers write nothing")]
#[path = "../../src/disk/mod.rs"]
mod disk;
#[allow(dead_code, reason = "of the whole crate")]
#[path = "../../src/error.rs"]
mod error;
#[allow(dead_code, unused_imports, reason = "the writers are not fuzzed")]
#[path = "../../src/format/mod.rs"]
mod format;
mod sys;

use format::{Value, read_pth_bytes};
use libfuzzer_sys::fuzz_target;

/// Visits all values that were read.
fn walk(value: &Value) -> usize {
    match value {
        Value::List(all) => all.iter().map(walk).sum(),
        Value::Dict(all) => all.iter().map(|(k, v)| walk(k) + walk(v)).sum(),
        Value::Tensor(t) => t.contiguous().numel(),
        _ => 1,
    }
}

/// Returns a zip of stored entries with correct checksums.
fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (vec![], vec![]);
    for (name, data) in entries {
        let start = out.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc32(data).to_le_bytes());
        common.extend([data.len() as u32; 2].iter().flat_map(|n| n.to_le_bytes()));
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.bytes().chain(data.iter().copied()));
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (at, n) = (out.len() as u32, entries.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([n, n].iter().flat_map(|n| n.to_le_bytes()));
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let value = if first & 1 == 0 {
        read_pth_bytes(data.strip_prefix(&[0]).unwrap_or(data), "input")
    } else {
        let storage = [7; 4096];
        let sizes = [4, 16, 32, 64, 96, 8];
        let names: Vec<String> = (0..sizes.len()).map(|i| format!("a/data/{i}")).collect();
        let mut entries = vec![("a/data.pkl", rest)];
        entries.extend(names.iter().zip(sizes).map(|(name, n)| (name.as_str(), &storage[..n])));
        read_pth_bytes(&zipped(&entries), "input")
    };
    if let Ok(value) = value {
        walk(&value);
    }
});

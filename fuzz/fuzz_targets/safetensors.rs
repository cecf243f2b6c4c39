//! Reading a safetensors file with any content succeeds or returns an error.
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

use format::read_safetensors_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((state, _)) = read_safetensors_bytes(data, "input") {
        for (_, tensor) in state {
            std::hint::black_box(tensor.contiguous());
        }
    }
});

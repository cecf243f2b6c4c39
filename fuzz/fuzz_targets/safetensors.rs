//! Whatever a safetensors file says, it is read or refused.
#![no_main]

use finetune::format::read_safetensors_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((state, _)) = read_safetensors_bytes(data, "input") {
        for (_, tensor) in state {
            tensor.contiguous();
        }
    }
});

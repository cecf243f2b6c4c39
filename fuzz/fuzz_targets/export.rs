//! Building an exported model with any description succeeds or returns an error. Its checksum is
//! corrected here.
#![no_main]

use finetune::{
    format::{Metadata, write_safetensors},
    learner::Predictor,
    tch::{Device, Kind, Tensor},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("finetune-fuzz-{}.safetensors", std::process::id()));
    let state = [("head.8.weight".to_owned(), Tensor::zeros([2, 512], (Kind::Float, Device::Cpu)))];
    let about = Metadata::from([
        ("finetune".to_owned(), "1".to_owned()),
        ("export".to_owned(), text.to_owned()),
    ]);
    write_safetensors(&path, &state, Some(about)).expect("the folder can be written");
    assert!(Predictor::load(&path, Device::Cpu).is_err(), "one tensor is no model");
});

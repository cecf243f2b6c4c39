//! Resuming from a checkpoint with any content succeeds or returns an error. Its checksum is corrected
//! here, except for every fourth input, which is the whole file.
#![no_main]

use finetune::{
    data::{Arrays, DataLoaders, LoaderOptions},
    format::{Metadata, write_safetensors},
    learner::Learner,
    loss::CrossEntropy,
    model::Model,
    sample::Task,
    tch::{Device, Kind, Tensor, nn},
};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fn learner(folder: &Path) -> finetune::Result<Learner> {
    let task = Task::Category { vocab: ["a".to_owned(), "b".to_owned()].into() };
    let x = Tensor::zeros([4, 2], (Kind::Float, Device::Cpu));
    let y = Tensor::arange(4, (Kind::Int64, Device::Cpu)).remainder(2);
    let rows = Arrays::from_tensors(&x, &y, task)?;
    let options = LoaderOptions::new().bs(2).num_workers(0).device(Device::Cpu);
    let dls = DataLoaders::from_arrays(rows.clone(), rows, options)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::seq_t().add(nn::linear(vs.root() / "head", 2, 2, nn::LinearConfig::default()));
    Ok(Learner::new(dls, Model::from_module(vs, net)?, CrossEntropy::new())?
        .quiet()
        .model_dir(folder))
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let folder = std::env::temp_dir().join(format!("finetune-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let path = folder.join("run.00000001.checkpoint.safetensors");
    if first % 4 == 0 {
        std::fs::write(&path, rest).expect("the folder can be written");
    } else {
        let Ok(text) = std::str::from_utf8(rest) else { return };
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        let list = || Tensor::zeros([0], (Kind::Double, Device::Cpu));
        let mut state = vec![
            ("model.head.weight".to_owned(), zeros(&[2, 2])),
            ("model.head.bias".to_owned(), zeros(&[2])),
            ("history.hypers".to_owned(), list().view([0, 1, 5])),
        ];
        for name in ["losses", "raw_losses", "lrs", "moms"] {
            state.push((format!("history.{name}"), list()));
        }
        let about = Metadata::from([
            ("finetune".to_owned(), "1".to_owned()),
            ("kind".to_owned(), "checkpoint".to_owned()),
            ("training".to_owned(), text.to_owned()),
        ]);
        write_safetensors(&path, &state, Some(about)).expect("the folder can be written");
    }
    if let Ok(mut learn) = learner(&folder) {
        let _ = learn.resume("run", &mut []);
    }
});

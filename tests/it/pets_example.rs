//! `examples/pets.rs`. It writes to a folder in the current one, so each run is a process of its own.

use crate::{
    pets::{BREEDS, first_of, photos},
    process,
};
use clap::Parser as _;
use finetune::{
    format::{Value, write_pth},
    model::{ArchSpec, HeadOptions, squeezenet1_1},
    prelude::*,
    seed::Seed,
};
use std::{env, fs, path::Path};

#[path = "../../examples/pets.rs"]
#[allow(dead_code, reason = "a test calls what comes after the command line")]
#[allow(clippy::duplicate_mod, reason = "the example of a folder has the same module")]
mod example;

#[test]
#[ignore = "the other half of the next test, in a process of its own"]
fn child() {
    let command = env::var("PETS_COMMAND").unwrap();
    example::run(example::Args::parse_from(command.lines())).unwrap();
}

/// Without epochs after the first stage, there would be no curve of losses to draw.
#[test]
fn the_number_of_epochs_is_checked_by_the_command_line() {
    for epochs in ["0", "100001"] {
        let parsed = example::Args::try_parse_from(["pets", "--epochs", epochs]);
        let e = parsed.unwrap_err().to_string();
        assert!(e.contains("--epochs") && e.contains(epochs), "{e}");
    }
    assert!(example::Args::try_parse_from(["pets", "--epochs", "1"]).is_ok());
}

/// Runs the example in `folder` with small settings. Returns true if it succeeded, and its output.
fn pets(folder: &Path, options: &[&str]) -> (bool, String) {
    let settings =
        "pets --images photos --arch squeezenet1_1 --device cpu --epochs 1 --size 32 --bs 4";
    let command: Vec<&str> = settings.split(' ').chain(options.iter().copied()).collect();
    let mut child = process::test("pets_example::child");
    process::run(child.env("PETS_COMMAND", command.join("\n")).current_dir(folder))
}

#[test]
fn the_weights_of_a_file_are_fine_tuned() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let copies = folder.path().join("photos");
    fs::create_dir(&copies).unwrap();
    for photo in first_of(&BREEDS, 5)(&photos())? {
        fs::copy(&photo, copies.join(photo.file_name().unwrap())).unwrap();
    }
    let spec = ArchSpec::new(&squeezenet1_1(), 3, 2, HeadOptions::new());
    let state = spec.build(Device::Cpu, Seed(1))?.state_dict().into_iter();
    let state = state.map(|(name, t)| (Value::Str(name), Value::Tensor(t)));
    write_pth(folder.path().join("net.pth"), &Value::Dict(state.collect()))?;

    let (done, said) = pets(folder.path(), &["--weights", "net.pth"]);
    assert!(done && !said.contains("not available"), "{said}");
    let out = folder.path().join("target/pets");
    for picture in ["batch", "lr_find", "loss", "confusion", "top_losses"] {
        assert!(out.join(picture).with_extension("png").exists(), "{picture}: {said}");
    }
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(BREEDS.iter().all(|breed| report.contains(breed)));
    let predictor = Predictor::load(out.join("pets.safetensors"), Device::Cpu)?;
    assert_eq!(predictor.task().vocab(), BREEDS);

    // Its model is the start of another training.
    let (done, said) = pets(folder.path(), &["--weights", "target/pets/pets.safetensors"]);
    assert!(done, "{said}");
    let (done, said) = pets(folder.path(), &["--weights", "net.pth", "--pretrained", "no"]);
    assert!(!done && said.contains("leave out one of the two"), "{said}");
    let (done, said) = pets(folder.path(), &["--weights", "absent.pth"]);
    assert!(!done && said.contains("absent.pth"), "{said}");
    Ok(())
}

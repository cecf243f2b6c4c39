//! `scripts/gpu-check` on the CPU, which runs the same steps as on a GPU.

use crate::pets::photos;
use clap::Parser as _;
use serde_json::Value;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[path = "../../examples/gpu_check/main.rs"]
mod example;

#[test]
#[ignore = "the program of the next tests, in a process of its own"]
fn program() {
    let args = env::var("GPU_CHECK_ARGS").unwrap();
    let args = ["gpu_check"].into_iter().chain(args.lines());
    example::run(&example::Args::parse_from(args)).unwrap();
}

/// Runs the script with the program above. Returns its output and the JSON file.
fn check(folder: &Path, images: &Path, flags: &[&str]) -> (Output, Value) {
    use std::os::unix::fs::PermissionsExt as _;

    let wrapper = folder.join("program");
    let this = env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nGPU_CHECK_ARGS=\"$(printf '%s\\n' \"$@\")\" exec '{}' --exact gpu::program --ignored --nocapture\n",
        this.display()
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let out = folder.join("figures.json");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu-check");
    let run = Command::new("python3")
        .arg(script)
        .arg("--cpu")
        .args([Path::new("--program"), &wrapper, Path::new("--images"), images])
        .args([Path::new("--out"), &out])
        .args(flags)
        .output()
        .unwrap();
    let figures = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    (run, figures)
}

/// Returns the names of the checks for which `is` holds.
fn names(figures: &Value, is: impl Fn(&Value) -> bool) -> Vec<String> {
    let checks = figures["checks"].as_array().unwrap().iter().filter(|c| is(c));
    checks.map(|c| c["check"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_checks_pass_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let (run, figures) = check(folder.path(), &photos(), &[]);
    let failed = names(&figures, |c| c["ok"] == false);
    assert!(run.status.success() && failed.is_empty(), "{failed:?} {run:?}");
    assert_eq!((&figures["ok"], &figures["mode"]), (&true.into(), &"cpu".into()));
    let passed = names(&figures, |c| c["ok"] == true);
    for name in [
        "doctor",
        "fit_fp32",
        "fit_bf16",
        "fit_fp16",
        "overflow",
        "optimizer Adam",
        "transform all together",
        "transform of masks",
        "batches for 0 and 8 workers",
        "training in bf16",
        "lr_find",
        "resume",
        "export and load on the CPU",
        "predictors in several threads",
        "training on photos",
        "training on photos with the presize cache",
        "inference in bf16",
    ] {
        assert!(passed.iter().any(|p| p == name), "{name} is not in {passed:?}");
    }
    // A processor is not measured against the goal of a GPU, nor without PyTorch against PyTorch.
    let open = names(&figures, |c| c["ok"].is_null());
    assert!(open.iter().all(|name| name.starts_with("goal: ")) && !open.is_empty(), "{open:?}");
    let peer = &figures["peer"];
    assert!(peer["torch"].is_string() || peer["why"].is_string(), "{peer}");
}

#[test]
fn a_check_that_fails_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let (run, figures) = check(folder.path(), &absent, &["--only", "loader", "optim"]);
    assert_eq!((run.status.code(), &figures["ok"]), (Some(1), &false.into()), "{run:?}");
    let failed = names(&figures, |c| c["ok"] == false);
    assert_eq!(failed, ["batches for 0 and 8 workers", "batches on both devices"]);
    let error = |c: &Value| c["error"].as_str().is_some_and(|e| e.contains("absent"));
    assert_eq!(names(&figures, error), failed);
    assert!(names(&figures, |c| c["ok"] == true).len() > 5, "{figures}");

    // A process that ends early, such as by a signal.
    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    let (run, figures) = check(&broken, &photos(), &["--only", "doctor", "--program", "false"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let ended = |c: &Value| c["error"].as_str().is_some_and(|e| e.contains("exit status"));
    assert_eq!(names(&figures, ended), ["doctor"], "{figures}");
}

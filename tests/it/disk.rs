//! Files are complete or do not exist.

use finetune::{
    disk::{self, FileOp},
    learner::Predictor,
    tch::Device,
};
use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        all.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn write(path: &Path, text: &str) -> finetune::Result<()> {
    disk::replace(path, |out| out.write_all(text.as_bytes()))
}

#[test]
fn each_system_call_that_fails_leaves_the_old_file_or_the_new_one() {
    // 3 MiB, which takes several writes.
    let new = "new".repeat(1 << 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.txt");
    let calls = Arc::new(Mutex::new(vec![]));
    let seen = calls.clone();
    write(&path, "old").unwrap();
    let watch = disk::watch(folder.path(), move |call| {
        seen.lock().unwrap().push(call.op);
        Ok(())
    });
    write(&path, &new).unwrap();
    drop(watch);
    let calls = calls.lock().unwrap().clone();
    for op in [FileOp::Create, FileOp::Write, FileOp::Sync, FileOp::Rename, FileOp::SyncFolder] {
        assert!(calls.contains(&op), "{op:?} is not among {calls:?}");
    }

    let errors = [
        ErrorKind::StorageFull,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::PermissionDenied,
        ErrorKind::Other,
    ];
    for (n, op) in calls.iter().enumerate() {
        for error in errors {
            write(&path, "old").unwrap();
            let count = AtomicUsize::new(0);
            let watch =
                disk::watch(folder.path(), move |_| match count.fetch_add(1, Ordering::SeqCst) {
                    i if i == n => Err(io::Error::from(error)),
                    _ => Ok(()),
                });
            let failed = write(&path, &new).unwrap_err().to_string();
            drop(watch);
            assert!(failed.contains("report.txt"), "{failed}");
            let text = fs::read_to_string(&path).unwrap();
            // Only the last call comes after the rename.
            let expected = if *op == FileOp::SyncFolder { new.as_str() } else { "old" };
            assert!(text == expected, "call {n}, {op:?}: {} bytes", text.len());
            assert_eq!(names(folder.path()), ["report.txt"], "call {n}, {op:?}");
            // The next write succeeds.
            write(&path, "again").unwrap();
        }
    }
}

#[test]
fn a_closure_that_fails_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write(&path, "old").unwrap();
    let failed = disk::replace(&path, |out| {
        out.write_all(b"half")?;
        Err(io::Error::other("no more"))
    });
    assert!(failed.unwrap_err().to_string().contains("no more"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), ["a"]);
    let error = write(folder.path(), "text").unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
}

#[test]
fn leftovers_of_killed_processes_are_removed_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    // A process that ended holds no lock.
    let left = folder.path().join(".model.safetensors.4000000-7.finetune-part");
    fs::write(&left, "half").unwrap();
    // A running process holds its lock.
    let held = folder.path().join(".other.csv.1-1.finetune-part");
    let file = fs::File::create(&held).unwrap();
    file.lock().unwrap();
    let others = [".hidden", "model.part", ".part.finetune-part"];
    others.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
    write(&folder.path().join("report.txt"), "text").unwrap();
    assert!(!left.exists());
    assert!(held.exists());
    assert_eq!(names(folder.path()).len(), others.len() + 2);
}

#[cfg(unix)]
#[test]
fn files_have_the_permissions_of_any_new_file_and_links_stay_links() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    let (plain, ours) = (folder.path().join("plain"), folder.path().join("ours"));
    fs::write(&plain, "").unwrap();
    write(&ours, "text").unwrap();
    assert_eq!(mode(&ours), mode(&plain));

    // Permissions that the owner has set are kept.
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o600)).unwrap();
    write(&ours, "secret").unwrap();
    assert_eq!(mode(&ours) & 0o777, 0o600);

    let link = folder.path().join("link");
    symlink(&ours, &link).unwrap();
    write(&link, "through the link").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&ours).unwrap(), "through the link");

    write(Path::new("/dev/null"), "nothing").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file(), "the device is still one");
}

#[cfg(feature = "show")]
#[test]
fn figures_and_reports_are_written_like_every_file() {
    use finetune::{
        Error,
        show::{Report, plot_function},
    };
    let folder = tempfile::tempdir().unwrap();
    let below = |name: &str| folder.path().join("new").join(name);
    plot_function("x", |x| x, 0.0..=1.0).save(below("x.svg")).unwrap();
    Report::new("r").text("a", "b").save(below("r.html")).unwrap();
    let full = disk::watch(folder.path(), |call| match call.op {
        FileOp::Write => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    for (file, done) in [
        ("r.html", Report::new("other").save(below("r.html"))),
        ("y.svg", plot_function("y", |y| y, 0.0..=1.0).save(below("y.svg"))),
    ] {
        let e = done.unwrap_err();
        let Error::Io { path, cause, .. } = &e else { panic!("{e}") };
        assert_eq!((path, cause.kind()), (&below(file), ErrorKind::StorageFull));
    }
    drop(full);
    assert_eq!(names(&folder.path().join("new")), ["r.html", "x.svg"]);
    assert!(fs::read_to_string(below("r.html")).unwrap().contains("</html>"));
}

#[test]
fn an_export_is_complete_or_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.safetensors");
    let learn = crate::pets::learner().unwrap();
    let full = disk::watch(folder.path(), |call| match call.op {
        FileOp::Write => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let error = learn.export(&path).unwrap_err().to_string();
    assert!(error.contains("pets.safetensors"), "{error}");
    drop(full);
    assert_eq!(names(folder.path()), [""; 0]);
    learn.export(&path).unwrap();
    Predictor::load(&path, Device::Cpu).unwrap();
}

//! Data sets from a server to a folder, and malicious archives.

use super::{
    process,
    server::{Server, respond, serve, serve_first},
};
use finetune::{
    Error,
    download::Download,
    download::{UntarData, fastai_path, untar_data},
};
use flate2::{Compression, write::GzEncoder};
use std::{
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tar::{EntryType, Header};

/// An entry of an archive: its type, its name, and its content or link target.
type Entry<'a> = (EntryType, &'a str, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

/// Returns a tar file with any names, including those that normal programs do not write.
fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    for (kind, name, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let body = match kind {
            EntryType::Symlink | EntryType::Link => {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
                ""
            }
            _ => content,
        };
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(vec![]));
    let options = zip::write::SimpleFileOptions::default();
    for (name, content) in entries {
        match content.strip_prefix("-> ") {
            Some(to) => writer.add_symlink(*name, to, options).unwrap(),
            None => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(content.as_bytes()).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("home/data")
    }

    fn untar(&self, url: &str) -> UntarData {
        let download = Download::new(url).quiet(true).backoff(Duration::from_millis(1)).retries(2);
        let archive = self.0.path().join("home/archive");
        UntarData::new(url).quiet(true).data(self.data()).archive(archive).download(download)
    }

    /// Creates an archive and unpacks it, without a server.
    fn unpack(&self, archive: &[u8]) -> Result<PathBuf, Error> {
        let folder = self.0.path().join("home/archive");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("set.tgz"), archive).unwrap();
        self.untar("http://127.0.0.1:1/set.tgz").fetch()
    }

    /// Returns every file and folder below, with relative paths.
    fn all(&self) -> Vec<String> {
        let walk = walkdir::WalkDir::new(self.0.path()).min_depth(1).sort_by_file_name();
        let name = |e: walkdir::DirEntry| {
            e.path().strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned()
        };
        walk.into_iter().map(|e| name(e.unwrap())).collect()
    }

    /// Asserts that an archive is rejected because of `why` and leaves nothing behind.
    fn refuses(&self, archive: &[u8], why: &str) {
        let e = self.unpack(archive).unwrap_err();
        assert!(matches!(&e, Error::Archive { .. }), "{e:?}");
        assert!(e.to_string().contains(why), "{e}");
        let left = ["home", "home/archive", "home/archive/set.tgz", "home/archive/set.tgz.lock"];
        assert_eq!(self.all(), [&left[..], &["home/data"]].concat(), "{e}");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

const PHOTOS: &[Entry<'_>] = &[
    (DIR, "photos/", ""),
    (FILE, "./photos/images/a.jpg", "first"),
    (FILE, "photos/images/b.jpg", "second"),
];

#[test]
fn a_data_set_is_downloaded_and_unpacked_once() {
    let (home, server) = (Home::new(), Server::of(gzip(&tar_of(PHOTOS))));
    let url = server.url("sets/photos-2.tgz?version=1");
    for _ in 0..2 {
        let path = untar_data(home.untar(&url)).unwrap();
        // The only folder in the archive is renamed to the archive's name.
        assert_eq!(path, home.data().join("photos-2"));
        assert_eq!(read(&path.join("images/a.jpg")), "first");
    }
    assert_eq!(server.requests().len(), 1);
    let left: Vec<_> = fs::read_dir(home.data()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let time = fs::metadata(home.data().join("photos-2/images/b.jpg")).unwrap().modified().unwrap();
    let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 1_600_000_000);
    // The archive alone is sufficient.
    fs::remove_dir_all(home.data()).unwrap();
    home.untar(&url).fetch().unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn several_entries_share_a_folder_and_other_forms_are_known_by_content() {
    let many: &[Entry<'_>] = &[(FILE, "a.txt", "first"), (FILE, "b/c.txt", "second")];
    let zip = zip_of(&[("a.txt", "first"), ("b/c.txt", "second")]);
    for archive in [gzip(&tar_of(many)), tar_of(many), zip] {
        let home = Home::new();
        let path = home.unpack(&archive).unwrap();
        assert_eq!(path, home.data().join("set"));
        assert_eq!(read(&path.join("a.txt")), "first");
        assert_eq!(read(&path.join("b/c.txt")), "second");
    }
}

#[test]
fn force_replaces_the_data_once_the_new_ones_are_complete() {
    let home = Home::new();
    let (old, new) = (gzip(&tar_of(PHOTOS)), gzip(&tar_of(&[(FILE, "photos/new.jpg", "third")])));
    let server = Server::start(move |n, request, stream| match n {
        0 => serve(stream, request, &old),
        1 => respond(stream, "200 OK", &["Content-Length: 7"], b"rubbish"),
        _ => serve(stream, request, &new),
    });
    let url = server.url("photos.tgz");
    let path = home.untar(&url).fetch().unwrap();
    fs::write(path.join("mine.txt"), "a note").unwrap();
    let e = home.untar(&url).force(true).fetch().unwrap_err();
    assert!(matches!(e, Error::Archive { .. }), "{e}");
    assert_eq!(read(&path.join("images/a.jpg")), "first");
    home.untar(&url).force(true).fetch().unwrap();
    assert_eq!(read(&path.join("new.jpg")), "third");
    assert!(!path.join("images").exists());
    assert_eq!(fs::read_dir(home.data()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_download_is_resumed_and_a_wrong_one_rejected() {
    let home = Home::new();
    let archive = gzip(&tar_of(PHOTOS));
    let content = archive.clone();
    let server = Server::start(move |n, request, stream| match n {
        0 => serve_first(stream, request, &content, 50),
        _ => serve(stream, request, &content),
    });
    home.untar(&server.url("photos.tgz")).fetch().unwrap();
    assert_eq!(server.requests()[1].range(), Some(50));

    let e = home.untar(&server.url("other.tgz")).sha256("00000000").fetch().unwrap_err();
    assert!(matches!(&e, Error::Download { .. }) && e.to_string().contains("SHA-256"), "{e}");
    assert!(!home.data().join("other").exists());
}

#[test]
fn concurrent_calls_unpack_a_set_once() {
    let (home, server) = (Home::new(), Server::of(gzip(&tar_of(PHOTOS))));
    let untar = home.untar(&server.url("photos.tgz"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| untar.fetch().unwrap());
        }
    });
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn paths_outside_of_the_folder_are_rejected() {
    for name in ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "..", "a/.."] {
        Home::new()
            .refuses(&gzip(&tar_of(&[(FILE, "ok", "fine"), (FILE, name, "evil")])), "leads out");
        if !name.contains('\\') {
            Home::new().refuses(&zip_of(&[("ok", "fine"), (name, "evil")]), "leads out");
        }
    }
    Home::new().refuses(&tar_of(&[(DIR, "../evil", "")]), "leads out");
}

#[cfg(unix)]
#[test]
fn links_inside_are_kept_and_links_outside_are_rejected() {
    let home = Home::new();
    let path = home
        .unpack(&tar_of(&[
            (SYMLINK, "set/latest", "v1"),
            (SYMLINK, "set/v1/up", "../a.txt"),
            (FILE, "set/v1/b.txt", "second"),
            (FILE, "set/a.txt", "first"),
            (LINK, "set/again.txt", "set/a.txt"),
        ]))
        .unwrap();
    assert_eq!(read(&path.join("latest/b.txt")), "second");
    assert_eq!(read(&path.join("v1/up")), "first");
    assert_eq!(read(&path.join("again.txt")), "first");

    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let (out, secret_path) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
    let hostile: &[&[Entry<'_>]] = &[
        &[(SYMLINK, "set/a", secret_path)],
        &[(SYMLINK, "set/a", "../../../../../../../../../../../../../etc/passwd")],
        &[(FILE, "set/x", ""), (SYMLINK, "set/a", "..")],
        &[(SYMLINK, "set/a", "nowhere")],
        &[(SYMLINK, "set/a", "b"), (SYMLINK, "set/b", "a")],
        &[(DIR, "set/d/e", ""), (SYMLINK, "set/x", "d"), (SYMLINK, "set/y", "x/../..")],
    ];
    for entries in hostile {
        Home::new().refuses(&tar_of(entries), "is not in the archive");
        let zip: Vec<_> = entries.iter().filter(|e| e.0 == SYMLINK).collect();
        let links: Vec<_> = zip.iter().map(|e| (e.1, format!("-> {}", e.2))).collect();
        let links: Vec<_> = links.iter().map(|(name, to)| (*name, to.as_str())).collect();
        Home::new().refuses(&zip_of(&links), "is not in the archive");
    }
    // Nothing is written or removed through a link.
    for through in [
        tar_of(&[(SYMLINK, "set/a", out), (FILE, "set/a/secret", "evil")]),
        tar_of(&[(SYMLINK, "set/a", out), (SYMLINK, "set/a/secret", "evil")]),
    ] {
        let e = Home::new().unpack(&through).unwrap_err();
        assert!(matches!(e, Error::Archive { .. }), "{e}");
        assert_eq!(read(&secret), "secret");
    }
    let beyond = "../../../../../../../../../../../../../../etc/passwd";
    Home::new().refuses(&tar_of(&[(LINK, "set/a", beyond)]), "leads out");
    Home::new().refuses(&tar_of(&[(LINK, "set/a", "set/b")]), "not an earlier file");
    Home::new().refuses(
        &tar_of(&[(SYMLINK, "b", "/etc"), (LINK, "a", "b/passwd")]),
        "not an earlier file",
    );
}

#[test]
fn devices_are_rejected() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::new(b'9')] {
        Home::new().refuses(&tar_of(&[(kind, "set/a", "")]), "not a file, folder or link");
    }
}

#[test]
fn bombs_are_rejected() {
    let limited = |archive: &[u8]| {
        let home = Home::new();
        let folder = home.0.path().join("home/archive");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("set.tgz"), archive).unwrap();
        let untar = home.untar("http://127.0.0.1:1/set.tgz").max_bytes(1 << 20).max_files(100);
        let e = untar.fetch().unwrap_err();
        assert_eq!(fs::read_dir(home.data()).unwrap().count(), 0);
        e.to_string()
    };
    let zeros = "\0".repeat(8 << 20);
    for archive in [gzip(&tar_of(&[(FILE, "a", &zeros)])), zip_of(&[("a", &zeros)])] {
        assert!(limited(&archive).contains("max_bytes"));
    }
    let names: Vec<_> = (0..101).map(|i| format!("set/{i}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (FILE, name.as_str(), "")).collect();
    assert!(limited(&gzip(&tar_of(&entries))).contains("max_files"));
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert!(limited(&zip_of(&entries)).contains("max_files"));
    // Names and attributes are read into memory.
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let text = limited(&gzip(&tar_of(&[(kind, "a", &zeros), (FILE, "b", "")])));
        assert!(text.contains("too long"), "{text}");
    }
}

#[test]
fn damaged_archives_are_errors_wherever_they_break() {
    let content = "0123456789".repeat(300);
    let entries: &[Entry<'_>] = &[(FILE, "set/a", &content), (FILE, "set/b", "second")];
    let zip = zip_of(&[("set/a", &content), ("set/b", "second")]);
    let gz = gzip(&tar_of(entries));
    for archive in [&gz, &zip] {
        for keep in [0, 1, 3, 20, archive.len() / 2, archive.len() - 9, archive.len() - 1] {
            let e = Home::new().unpack(&archive[..keep]).unwrap_err();
            assert!(matches!(e, Error::Archive { .. }), "{keep}: {e}");
            assert!(e.to_string().contains("force(true)"), "{e}");
        }
    }
    // The checksum detects a flipped bit of the compressed content.
    let mut flipped = gz.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    Home::new().refuses(&flipped, "checksum");
    Home::new().refuses(b"<html>404</html>", "neither a tar file");
}

#[test]
fn the_settings_of_fastai_are_respected() {
    let home = Home::new();
    let folder = home.0.path().join("fastai");
    fs::create_dir_all(folder.join("packed")).unwrap();
    fs::write(folder.join("config.ini"), "[DEFAULT]\ndata = sets\narchive = packed\n").unwrap();
    fs::write(folder.join("packed/photos.tgz"), gzip(&tar_of(PHOTOS))).unwrap();
    let mut command = process::test("untar::with_settings");
    let (passed, said) = process::run(command.env("FASTAI_HOME", &folder));
    assert!(passed, "{said}");
    assert_eq!(read(&folder.join("sets/photos/images/a.jpg")), "first");
    assert_eq!(read(&folder.join("mine/photos/images/a.jpg")), "first");
}

#[test]
#[ignore = "run by another test, with its environment"]
fn with_settings() {
    let home = PathBuf::from(std::env::var("FASTAI_HOME").unwrap());
    assert_eq!(fastai_path("data").unwrap(), home.join("sets"));
    assert_eq!(fastai_path("model").unwrap(), home.join("models"));
    let url = "http://127.0.0.1:1/photos.tgz";
    assert_eq!(untar_data(url).unwrap(), home.join("sets/photos"));
    let mine = UntarData::new(url).data("mine").fetch().unwrap();
    assert_eq!(mine, home.join("mine/photos"));
    // Invalid settings are not replaced by defaults.
    fs::write(home.join("config.ini"), [b'\xff'; 4]).unwrap();
    assert!(matches!(fastai_path("data"), Err(Error::Io { .. })));
    assert!(matches!(untar_data(url), Err(Error::Io { .. })));
}

#[test]
fn d17_a_retry_after_a_bad_archive_works() {
    let home = Home::new();
    let (bad, good) = (gzip(b"no archive"), gzip(&tar_of(PHOTOS)));
    let server = Server::start(move |n, request, stream| match n {
        0 => serve(stream, request, &bad),
        _ => serve(stream, request, &good),
    });
    let url = server.url("photos.tgz");
    let e = home.untar(&url).fetch().unwrap_err();
    assert!(matches!(e, Error::Archive { .. }), "{e}");
    assert!(e.to_string().contains("another attempt downloads it again"), "{e}");
    let path = home.untar(&url).fetch().unwrap();
    assert_eq!(read(&path.join("images/a.jpg")), "first");
}

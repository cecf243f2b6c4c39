//! Unpacks untrusted archives.
//!
//! Nothing is written outside the target folder. Paths that lead outside are rejected. Links are created
//! last, so that nothing is written through one, and only if their targets are inside.

use indicatif::ProgressBar;
use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek as _, Write as _},
    path::{Component, Path, PathBuf},
    rc::Rc,
};

/// The maximum size of the names and attributes of one entry of a tar file.
const HEADER_BYTES: u64 = 4 << 20;

/// The limits of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// Unpacks a tar file, plain or gzipped, or a zip file into an empty folder, and returns the path
/// of its content: its only entry, if there is only one.
pub(super) fn unpack(
    archive: &Path,
    folder: &Path,
    limits: Limits,
    bar: &ProgressBar,
) -> io::Result<PathBuf> {
    let mut file = File::open(archive)?;
    let mut head = vec![];
    (&mut file).take(512).read_to_end(&mut head)?;
    file.rewind()?;
    bar.set_length(file.metadata()?.len());
    let mut target = Target { folder: folder.to_owned(), links: BTreeMap::new(), left: limits };
    let file = BufReader::with_capacity(1 << 20, bar.wrap_read(file));
    match head.as_slice() {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => target.zip(File::open(archive)?)?,
        [0x1f, 0x8b, ..] => target.tar(flate2::bufread::MultiGzDecoder::new(file))?,
        head if head.get(257..262) == Some(b"ustar") => target.tar(file)?,
        _ => return Err(invalid("it is neither a tar file (plain or gzipped) nor a zip file")),
    }
    target.make_room_for_links()?;
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    // Links are created later, so a link at the top level is counted by its name.
    let links = target.links.keys().filter(|link| link.parent() == Some(folder)).count();
    let root = match (entries.pop(), entries.len() + links) {
        (Some(only), 0) => only.path(),
        _ => folder.to_owned(),
    };
    target.make_links(&root)?;
    Ok(root)
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn too_large(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

struct Target {
    folder: PathBuf,
    /// Links to create, and their targets.
    links: BTreeMap<PathBuf, PathBuf>,
    left: Limits,
}

impl Target {
    fn tar(&mut self, reader: impl Read) -> io::Result<()> {
        let budget = Rc::new(Cell::new(HEADER_BYTES));
        let mut archive = tar::Archive::new(Budgeted { reader, budget: budget.clone() });
        let mut entries = archive.entries()?;
        loop {
            budget.set(HEADER_BYTES);
            let Some(entry) = entries.next() else { break };
            budget.set(u64::MAX);
            let mut entry = entry?;
            self.count()?;
            let kind = entry.header().entry_type();
            let path = self.place(&entry.path()?)?;
            let links_to = entry.link_name()?.map(|name| name.into_owned());
            match (kind, path, links_to) {
                (_, None, _) | (tar::EntryType::XGlobalHeader, ..) => {}
                (tar::EntryType::Directory, Some(path), _) => fs::create_dir_all(path)?,
                (tar::EntryType::Symlink, Some(path), Some(to)) => {
                    self.links.insert(path, to);
                }
                (tar::EntryType::Link, Some(path), Some(to)) => self.hard_link(&path, &to)?,
                (kind, Some(path), _) if kind.is_file() || kind.is_gnu_sparse() => {
                    let modified = entry.header().mtime().ok();
                    self.write(&path, &mut entry, modified)?;
                }
                (kind, Some(path), _) => {
                    let name = path.display();
                    return Err(invalid(format!(
                        "{name} is not a file, folder or link, but {kind:?}"
                    )));
                }
            }
        }
        // The rest is padding; reading it verifies the checksum of a gzipped file.
        budget.set(u64::MAX);
        let mut rest = archive.into_inner();
        let padding = io::copy(&mut rest.by_ref().take(1 << 30), &mut io::sink())?;
        if padding == 1 << 30 {
            return Err(invalid("there is too much data after its end"));
        }
        Ok(())
    }

    fn zip(&mut self, file: File) -> io::Result<()> {
        let mut archive = zip::ZipArchive::new(BufReader::new(file))?;
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i)?;
            self.count()?;
            let Some(path) = self.place(Path::new(entry.name()))? else { continue };
            if entry.is_dir() {
                fs::create_dir_all(path)?;
            } else if entry.is_symlink() {
                let mut to = String::new();
                entry.by_ref().take(4096).read_to_string(&mut to)?;
                self.links.insert(path, to.into());
            } else {
                self.write(&path, &mut entry, None)?;
            }
        }
        Ok(())
    }

    /// Counts an entry.
    fn count(&mut self) -> io::Result<()> {
        let Some(left) = self.left.files.checked_sub(1) else {
            return Err(too_large("it has more entries than the limit (`max_files`)"));
        };
        self.left.files = left;
        Ok(())
    }

    /// Returns the place of an entry; `None` for the target folder itself.
    fn place(&self, name: &Path) -> io::Result<Option<PathBuf>> {
        let mut path = self.folder.clone();
        let mut empty = true;
        for part in name.components() {
            match part {
                Component::CurDir => {}
                // A backslash separates names on Windows, and a colon denotes a drive or a stream.
                Component::Normal(part) if !part.as_encoded_bytes().contains(&b'\\') => {
                    path.push(part);
                    empty = false;
                }
                _ => {
                    let name = name.display();
                    return Err(invalid(format!("the path `{name}` leads outside of the archive")));
                }
            }
        }
        Ok((!empty).then_some(path))
    }

    fn write(
        &mut self,
        path: &Path,
        content: &mut impl Read,
        modified: Option<u64>,
    ) -> io::Result<()> {
        make_room(path)?;
        self.links.remove(path);
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let written = io::copy(&mut content.take(self.left.bytes.saturating_add(1)), &mut file)?;
        let Some(left) = self.left.bytes.checked_sub(written) else {
            return Err(too_large("it unpacks to more bytes than the limit (`max_bytes`)"));
        };
        self.left.bytes = left;
        file.flush()?;
        if let Some(seconds) = modified.filter(|s| *s < 1 << 40) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            // A file system that cannot store the time is not an error.
            let _ = file.set_modified(time);
        }
        Ok(())
    }

    /// Creates another name of an existing file.
    fn hard_link(&mut self, path: &Path, to: &Path) -> io::Result<()> {
        let there = self.place(to)?.filter(|to| to.is_file() && to != path);
        let Some(there) = there else {
            let (name, to) = (path.display(), to.display());
            return Err(invalid(format!(
                "{name} is a link to `{to}`, which is not an earlier file"
            )));
        };
        make_room(path)?;
        self.links.remove(path);
        fs::hard_link(there, path)
    }

    /// Creates the folders of all symbolic links before the first link, so that no folder is created, and
    /// no file removed, through a link.
    fn make_room_for_links(&self) -> io::Result<()> {
        for (path, to) in &self.links {
            if to.has_root() {
                return Err(leads_out(path, to));
            }
            make_room(path)?;
        }
        Ok(())
    }

    /// Creates the symbolic links after everything else, and checks their targets.
    fn make_links(&self, root: &Path) -> io::Result<()> {
        for (path, to) in &self.links {
            link(to, path)?;
        }
        let root = root.canonicalize()?;
        for (path, to) in &self.links {
            if !path.canonicalize().is_ok_and(|end| end.starts_with(&root)) {
                return Err(leads_out(path, to));
            }
        }
        Ok(())
    }
}

fn leads_out(path: &Path, to: &Path) -> io::Error {
    let (name, to) = (path.display(), to.display());
    invalid(format!("{name} is a link to `{to}`, which is not in the archive"))
}

/// Creates the folder of a path, and removes an earlier entry of the same name.
fn make_room(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn link(to: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, path)
}

#[cfg(not(unix))]
fn link(to: &Path, path: &Path) -> io::Result<()> {
    Err(invalid(format!(
        "{} is a link to {}, which is not supported here",
        path.display(),
        to.display()
    )))
}

/// A reader with a budget, since names of entries are read into memory.
struct Budgeted<R> {
    reader: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        match self.budget.get() {
            u64::MAX => {}
            left => match left.checked_sub(n as u64) {
                Some(left) => self.budget.set(left),
                None => return Err(invalid("the name of an entry is too long")),
            },
        }
        Ok(n)
    }
}

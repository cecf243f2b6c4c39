//! Presized images in one file, mapped into memory.
//!
//! The file consists of a header, the pixels of all images, a list of the images as JSON, and a trailer
//! with the position and the SHA-256 of the list. It is never changed in place. New images are written to a
//! temporary file, which takes over the valid entries of the old one and is renamed.

use super::store::{CacheStatus, Key, Store, Version};
use crate::{
    disk::Temporary,
    error::{Error, Result},
    image::Image,
    sys::Mapped,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

const HEAD: &[u8] = b"finetune: presized images, 2\n";
/// Two integers of 8 bytes and a SHA-256.
const TAIL: usize = 48;

/// An image in the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    /// Hexadecimal, since JSON numbers have fewer digits.
    id: String,
    version: Version,
    size: (u32, u32, u8),
    at: u64,
    /// CRC-32 of the pixels.
    crc: u32,
    /// True if it is in the mapped file; otherwise it is in the new one.
    #[serde(skip)]
    mapped: bool,
}

impl Entry {
    fn len(&self) -> u64 {
        u64::from(self.size.0) * u64::from(self.size.1) * u64::from(self.size.2)
    }

    /// Returns the maximum number of bytes that the image takes, including its list entry.
    fn cost(&self) -> u64 {
        let far = Self { at: u64::MAX, ..self.clone() };
        let text = serde_json::to_string(&far).map_or(u64::MAX / 4, |text| text.len() as u64 + 1);
        self.len() + text
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.at as usize..(self.at + self.len()) as usize
    }
}

/// Images in a file, up to a size limit.
pub(in crate::data) struct FileStore {
    path: PathBuf,
    limit: u64,
    /// An upper bound of the size of a file with all entries.
    used: AtomicU64,
    full: AtomicBool,
    error: Mutex<Option<String>>,
    /// Locked for reading while images are read or added, and for writing while the file is replaced.
    files: RwLock<Files>,
    entries: RwLock<HashMap<u128, Entry>>,
}

#[derive(Default)]
struct Files {
    map: Option<Mapped>,
    fresh: Option<Fresh>,
    /// True if the file has stale entries and must be rewritten even if nothing is added.
    stale: bool,
}

/// The temporary file that will replace the current one.
struct Fresh {
    file: Temporary,
    len: AtomicU64,
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("FileStore");
        f.field("path", &self.path).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl FileStore {
    pub(in crate::data) fn open(path: &Path, limit: u64) -> Result<Self> {
        let folder = folder(path);
        if !folder.is_dir() {
            let why = io::Error::new(
                io::ErrorKind::NotFound,
                "the folder of the cache file does not exist",
            );
            return Err(Error::io(folder)(why));
        }
        let store = Self {
            path: path.to_owned(),
            limit,
            used: AtomicU64::new((HEAD.len() + TAIL + 2) as u64),
            full: AtomicBool::new(false),
            error: Mutex::new(None),
            files: RwLock::default(),
            entries: RwLock::default(),
        };
        if let Some((map, list)) = read(path) {
            let mut files = store.files.write().unwrap_or_else(PoisonError::into_inner);
            let mut entries = store.entries.write().unwrap_or_else(PoisonError::into_inner);
            for entry in list {
                files.stale |= !store.adopt(entry, &mut entries);
            }
            // The file was written by another run with a higher limit.
            files.stale |= map.len() as u64 > limit;
            files.map = Some(map);
        }
        Ok(store)
    }

    /// Adopts an entry of the mapped file if its image file is unchanged and there is room. Returns true if so.
    fn adopt(&self, entry: Entry, entries: &mut HashMap<u128, Entry>) -> bool {
        let Ok(id) = u128::from_str_radix(&entry.id, 16) else { return false };
        let true_still = Version::of(&entry.path) == Some(entry.version);
        if !true_still || entries.contains_key(&id) || !self.reserve(entry.cost()) {
            return false;
        }
        entries.insert(id, Entry { mapped: true, ..entry });
        true
    }

    /// Reserves `cost` bytes. Returns false if there is not enough room.
    fn reserve(&self, cost: u64) -> bool {
        let more = |used: u64| used.checked_add(cost).filter(|&used| used <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn fail(&self, e: &dyn fmt::Display) {
        self.full.store(true, Ordering::Relaxed);
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.get_or_insert_with(|| format!("{}: {e}", self.path.display()));
    }

    /// Creates a temporary file if there is none.
    fn begin(&self) -> io::Result<()> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.fresh.is_none() {
            files.fresh = Some(Fresh::new(&self.path)?);
        }
        Ok(())
    }

    fn add(&self, key: &Key, image: &Image) -> io::Result<bool> {
        if self.files.read().unwrap_or_else(PoisonError::into_inner).fresh.is_none() {
            self.begin()?;
        }
        let size = (image.width(), image.height(), image.channels());
        let id = format!("{:x}", key.id);
        let mut entry = Entry {
            path: key.path.clone(),
            id,
            version: key.version,
            size,
            at: 0,
            crc: crc32fast::hash(image.pixels()),
            mapped: false,
        };
        if !self.reserve(entry.cost()) {
            return Ok(false);
        }
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        // The file was published in the meantime; the next epoch will add the image.
        let Some(fresh) = &files.fresh else {
            self.used.fetch_sub(entry.cost(), Ordering::AcqRel);
            return Ok(true);
        };
        entry.at = fresh.len.fetch_add(entry.len(), Ordering::AcqRel);
        fresh.file.write_at(image.pixels(), entry.at)?;
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = entries.insert(key.id, entry).filter(|old| old.mapped) {
            self.used.fetch_sub(old.cost(), Ordering::AcqRel);
        }
        Ok(true)
    }

    /// Publishes a file with all entries.
    fn publish(&self) -> io::Result<()> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = match files.fresh.take() {
            Some(fresh) => fresh,
            None => Fresh::new(&self.path)?,
        };
        // Entries that other runs have published in the meantime.
        let (theirs, others) = read(&self.path).unzip();
        for entry in others.into_iter().flatten() {
            if let Ok(id) = u128::from_str_radix(&entry.id, 16)
                && !entries.contains_key(&id)
                && let Some(map) = &theirs
                && Version::of(&entry.path) == Some(entry.version)
                && self.reserve(entry.cost())
            {
                let at = fresh.append(&map[entry.range()])?;
                entries.insert(id, Entry { at, ..entry });
            }
        }
        for entry in entries.values_mut().filter(|e| e.mapped) {
            if let Some(map) = &files.map {
                (entry.at, entry.mapped) = (fresh.append(&map[entry.range()])?, false);
            }
        }
        fresh.finish(entries.values())?;
        // Some systems cannot replace a mapped file, so unmap it first.
        drop((theirs, files.map.take()));
        let file = fresh.file.place()?;
        files.map = Some(Mapped::of(&file)?);
        files.stale = false;
        entries.values_mut().for_each(|e| e.mapped = true);
        Ok(())
    }

    /// Publishes the file. If that fails, clears the cache: the positions of its images are unknown then.
    fn try_publish(&self) {
        if let Err(e) = self.publish() {
            self.fail(&e);
            self.entries.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Returns the number of new bytes, the number of bytes in the current file, and true if the file is stale.
    fn sizes(&self) -> (u64, u64, bool) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let new = files.fresh.as_ref().map_or(0, |f| f.len.load(Ordering::Acquire));
        (new, files.map.as_ref().map_or(0, |m| m.len() as u64), files.stale)
    }
}

impl Store for FileStore {
    fn get(&self, key: &Key) -> Option<Image> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let entry = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries.get(&key.id).filter(|e| e.version == key.version)?.clone()
        };
        let pixels = if entry.mapped {
            files.map.as_ref()?.get(entry.range())?.to_vec()
        } else {
            let mut pixels = vec![0; entry.len() as usize];
            read_at(files.fresh.as_ref()?.file.file().ok()?, &mut pixels, entry.at).ok()?;
            pixels
        };
        // A damaged image is decoded again.
        if crc32fast::hash(&pixels) != entry.crc {
            return None;
        }
        let (width, height, channels) = entry.size;
        Image::new(width, height, channels, pixels).ok()
    }

    fn put(&self, key: &Key, image: &Image) {
        if self.full.load(Ordering::Relaxed) {
            return;
        }
        match self.add(key, image) {
            Ok(true) => {}
            Ok(false) => self.full.store(true, Ordering::Relaxed),
            Err(e) => self.fail(&e),
        }
    }

    /// Writes the cache file if many images are new. Writing it copies all images, so a few new ones are
    /// written only when the last handle is dropped.
    fn settle(&self) {
        let (new, old, stale) = self.sizes();
        if new > old / 4 || (stale && new > 0) {
            self.try_publish();
        }
    }

    fn status(&self) -> CacheStatus {
        let images = self.entries.read().unwrap_or_else(PoisonError::into_inner).len();
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (bytes, full) = (self.used.load(Ordering::Acquire), self.full.load(Ordering::Relaxed));
        CacheStatus { images, bytes, full, error }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        let (new, _, stale) = self.sizes();
        if new > 0 || stale {
            self.try_publish();
        }
    }
}

impl Fresh {
    fn new(beside: &Path) -> io::Result<Self> {
        let file = Temporary::create_in_folder(beside)?;
        file.write_at(HEAD, 0)?;
        Ok(Self { file, len: AtomicU64::new(HEAD.len() as u64) })
    }

    fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.len.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        self.file.write_at(bytes, at)?;
        Ok(at)
    }

    /// Writes the list and the trailer.
    fn finish<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|e| e.at);
        let list = serde_json::to_vec(&entries)?;
        let at = *self.len.get_mut();
        let mut end = list.clone();
        end.extend(at.to_le_bytes());
        end.extend((list.len() as u64).to_le_bytes());
        end.extend(Sha256::digest(&list));
        self.file.write_at(&end, at)
    }
}

/// Returns the file and its list; `None` if it is missing or incomplete.
fn read(path: &Path) -> Option<(Mapped, Vec<Entry>)> {
    let map = Mapped::open(path).ok()?;
    let tail = map.len().checked_sub(TAIL).filter(|_| map.starts_with(HEAD))?;
    let number = |at: usize| Some(u64::from_le_bytes(map[at..at + 8].try_into().ok()?) as usize);
    let (at, len) = (number(tail)?, number(tail + 8)?);
    let list = map.get(at..tail).filter(|list| list.len() == len)?;
    if Sha256::digest(list)[..] != map[tail + 16..] {
        return None;
    }
    let entries: Vec<Entry> = serde_json::from_slice(list).ok()?;
    let inside = |e: &Entry| e.at.checked_add(e.len()).is_some_and(|end| end <= at as u64);
    entries.iter().all(inside).then_some((map, entries))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (bytes, at) = (&mut bytes[n..], at + n as u64);
    }
    Ok(())
}

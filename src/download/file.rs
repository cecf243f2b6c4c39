//! Downloads a file: resumed, retried, verified, and moved into place only when complete.

use super::{
    exchange::{Exchange, Failure},
    part::Part,
};
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

/// The maximum wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The maximum time without data. Clocks can add it to the current time.
const LONGEST_PATIENCE: Duration = Duration::from_secs(86_400);

/// An attempt that receives this many new bytes has made progress, and the count of failures restarts.
const PROGRESS: u64 = 256 << 10;

/// A file to be downloaded.
///
/// Bytes are written to `NAME.part` in the folder of the file, with a progress bar on standard error if it
/// is a terminal. An interrupted download is resumed, also by a later process. Transient errors are retried
/// with exponential backoff. The file is verified and then renamed, so a file with the final name is
/// complete. Processes that download the same file wait for each other. Proxies are taken from the
/// environment (`HTTPS_PROXY`, `NO_PROXY`, …).
///
/// ```no_run
/// use finetune::download::Download;
///
/// Download::new("https://download.pytorch.org/models/resnet18-f37072fd.pth")
///     .sha256("f37072fd")
///     .fetch_to("models/resnet18-f37072fd.pth")?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Download {
    url: String,
    sha256: Option<String>,
    max_bytes: Option<u64>,
    retries: u32,
    backoff: Duration,
    patience: Duration,
    recheck: bool,
    force: bool,
    quiet: bool,
    offline: bool,
}

impl Download {
    /// Creates a download of an `http` or `https` URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            sha256: None,
            max_bytes: None,
            retries: 5,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(60),
            recheck: true,
            force: false,
            quiet: false,
            offline: offline_by_environment(),
        }
    }

    /// Sets the SHA-256 of the file in hexadecimal: all 64 digits, or at least the first 8, as in PyTorch's
    /// file names. Default: the file is not verified.
    #[must_use]
    pub fn sha256(mut self, digits: impl Into<String>) -> Self {
        self.sha256 = Some(digits.into().to_ascii_lowercase());
        self
    }

    /// Sets the maximum size in bytes; a larger file is an error. Default: no limit.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets the maximum number of retries without progress. Default: 5.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the wait before the first retry. It doubles with each further retry, up to one minute. A
    /// server's `Retry-After` is respected up to the same limit. Default: 0.5 s.
    #[must_use]
    pub fn backoff(mut self, wait: Duration) -> Self {
        self.backoff = wait;
        self
    }

    /// Sets the time without data after which a connection is considered lost, at most one day. Default: one
    /// minute.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// If true, an existing file is compared with the SHA-256, and downloaded again if it differs. Default:
    /// true.
    #[must_use]
    pub fn recheck(mut self, yes: bool) -> Self {
        self.recheck = yes;
        self
    }

    /// Sets another URL, with the same options.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// If true, an existing file is downloaded again. It is kept until the new one is complete. Default:
    /// false.
    #[must_use]
    pub fn force(mut self, yes: bool) -> Self {
        self.force = yes;
        self
    }

    /// If true, no progress bar is shown. Without a terminal, there is none either. Default: false.
    #[must_use]
    pub fn quiet(mut self, yes: bool) -> Self {
        self.quiet = yes;
        self
    }

    /// If true, only an existing file is used, never the network. Default: [`offline_by_environment`].
    #[must_use]
    pub fn offline(mut self, yes: bool) -> Self {
        self.offline = yes;
        self
    }

    /// Downloads the file to `path` unless it exists. Missing folders are created.
    ///
    /// # Errors
    /// [`Error::Download`] if the download fails, the file is too large or has another checksum, or the
    /// download is offline; the error says where to place the file manually. [`Error::Io`] if it cannot be
    /// written, [`Error::Config`] if the SHA-256 or the patience is invalid.
    pub fn fetch_to(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.check_options()?;
        let before = version(path);
        if !self.force && self.is_there(path)? {
            return Ok(());
        }
        if self.offline {
            let why = match path.exists() {
                true if self.force => "a new download is requested",
                true => "the existing file has another SHA-256",
                false => "it does not exist",
            };
            return Err(self.failed(path, &format!("{why}, but downloads are disabled")));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let bar = self.bar(path);
        let mut part = Part::open(path, || bar.set_message("another process is downloading"))?;
        // Another process may have completed it in the meantime.
        let new = !self.force || version(path) != before;
        let outcome = match self.is_there(path).map(|there| there && new) {
            Ok(true) => part.remove(),
            Ok(false) => self.fill(&mut part, path, &bar).and_then(|()| part.place(path)),
            Err(e) => Err(e),
        };
        bar.finish_and_clear();
        if outcome.is_err() && part.is_empty() {
            part.remove()?;
        }
        outcome
    }

    fn check_options(&self) -> Result<()> {
        if self.patience > LONGEST_PATIENCE {
            let why = format!("is {:?}; it must be at most one day", self.patience);
            return Err(Error::config("patience", why));
        }
        let Some(digits) = &self.sha256 else { return Ok(()) };
        let hexadecimal = digits.bytes().all(|b| b.is_ascii_hexdigit());
        if hexadecimal && (8..=64).contains(&digits.len()) {
            return Ok(());
        }
        let why = format!("`{digits}` is not a SHA-256 of 8 to 64 hexadecimal digits");
        Err(Error::config("sha256", why))
    }

    /// Returns true if an existing file can be used.
    fn is_there(&self, path: &Path) -> Result<bool> {
        if !path.is_file() {
            return Ok(false);
        }
        match &self.sha256 {
            Some(digits) if self.recheck => Ok(sha256_of(path)?.starts_with(digits)),
            _ => Ok(true),
        }
    }

    /// Completes the partial file with as many requests as needed, and verifies it.
    fn fill(&self, part: &mut Part, path: &Path, bar: &ProgressBar) -> Result<()> {
        let exchange = Exchange::new(&self.url, self.max_bytes, self.patience);
        let (mut failures, mut furthest, mut afresh) = (0, part.len(), part.is_empty());
        loop {
            let why = match exchange.run(part, self.sha256.is_some(), bar) {
                Ok(()) => match self.wrong_hash(part)? {
                    None => return Ok(()),
                    // The bytes of an earlier process may be wrong: start from scratch.
                    Some(_) if !afresh => {
                        afresh = true;
                        part.clear()?;
                        continue;
                    }
                    Some(found) => {
                        part.remove()?;
                        let wanted = self.sha256.as_deref().unwrap_or_default();
                        let why = format!(
                            "the downloaded file has the SHA-256 {found} instead of {wanted}, so it \
                             was removed"
                        );
                        return Err(self.failed(path, &why));
                    }
                },
                Err(Failure::Local(e)) => return Err(e),
                Err(Failure::Final(why)) => return Err(self.failed(path, &why)),
                Err(Failure::Passing { why, wait }) => {
                    if part.len() >= furthest + PROGRESS {
                        failures = 0;
                    }
                    furthest = furthest.max(part.len());
                    failures += 1;
                    if failures <= self.retries {
                        let own = self.backoff.saturating_mul(1 << (failures - 1).min(20));
                        let wait = wait.unwrap_or(own).max(own).min(LONGEST_WAIT);
                        bar.set_message(format!("{why}; retrying in {wait:.0?}"));
                        thread::sleep(wait);
                        continue;
                    }
                    why
                }
            };
            let why = match failures {
                1 => why,
                n => format!("{why}, after {n} attempts"),
            };
            return Err(self.failed(path, &why));
        }
    }

    /// Returns the SHA-256 of the partial file if it differs from the expected one.
    fn wrong_hash(&self, part: &Part) -> Result<Option<String>> {
        let Some(digits) = &self.sha256 else { return Ok(None) };
        let found = sha256_of(part.path())?;
        Ok((!found.starts_with(digits)).then_some(found))
    }

    fn bar(&self, path: &Path) -> ProgressBar {
        let target = match self.quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let style = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        ProgressBar::with_draw_target(None, target).with_style(style).with_prefix(name)
    }

    fn failed(&self, path: &Path, why: &str) -> Error {
        let place = path.display();
        let help = format!("{why}. To place it manually, download it by other means to {place}");
        Error::download(&self.url, help)
    }
}

/// Identifies a version of a file: its modification time and length.
fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// Returns whether `FINETUNE_OFFLINE` is set to a value other than the empty string or `0`.
#[must_use]
pub fn offline_by_environment() -> bool {
    std::env::var_os("FINETUNE_OFFLINE").is_some_and(|v| !v.is_empty() && v != "0")
}

/// Returns the SHA-256 of a file in 64 hexadecimal digits.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn sha256_of(path: impl AsRef<Path>) -> Result<String> {
    let path: PathBuf = path.as_ref().into();
    let digest = || -> io::Result<_> {
        let mut file = File::open(&path)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize()),
                n => hash.update(&buffer[..n]),
            }
        }
    };
    let digest = digest().map_err(Error::io(&path))?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

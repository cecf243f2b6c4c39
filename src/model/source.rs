//! Sources of pretrained weights: local files, downloaded if necessary.

use crate::{
    error::{Error, Result},
    format::{Metadata, StateDict, read_pth, read_safetensors, state_dict},
    transform::Normalize,
};
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The URL of torchvision's weights.
const PUBLISHED: &str = "https://download.pytorch.org/models";

/// The URL of model hub repositories.
const HUB: &str = "https://huggingface.co";

/// The source of pretrained weights.
///
/// ```
/// use finetune::model::WeightsFrom;
///
/// let own = WeightsFrom::file("weights/resnet34.pth");
/// let hub = WeightsFrom::hub("timm/resnet34.a1_in1k").revision("main");
/// assert_ne!(own, hub);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WeightsFrom {
    place: Place,
    normalize: Option<Normalize>,
    network: Network,
    /// The first option of a hub that was set on another source.
    misplaced: Option<&'static str>,
}

/// The retries and timeout of a download; `None` for the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Network {
    retries: Option<u32>,
    patience: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Published,
    Url(String),
    Hub {
        repo: String,
        revision: String,
        file: String,
    },
    File(PathBuf),
}

impl WeightsFrom {
    fn at(place: Place) -> Self {
        Self { place, normalize: None, network: Network::default(), misplaced: None }
    }

    /// Uses the file that torchvision publishes for the architecture, the default of `pretrained`. It is
    /// stored where PyTorch stores it, so that Python and this crate share the download: `hub/checkpoints`
    /// in `TORCH_HOME`, otherwise in `torch` in `XDG_CACHE_HOME` or `~/.cache`. The SHA-256 prefix in its
    /// name is verified. `FINETUNE_WEIGHTS_URL` replaces `https://download.pytorch.org/models`.
    #[must_use]
    pub fn published() -> Self {
        Self::at(Place::Published)
    }

    /// Uses a `.pth` or safetensors file at a URL, stored in the same folder as torchvision's. If its name
    /// ends in a dash and at least eight digits of its SHA-256 before the extension, they are verified.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self::at(Place::Url(url.into()))
    }

    /// Uses `model.safetensors` on the main branch of a repository of the Hugging Face hub, or of the hub
    /// at `HF_ENDPOINT`. It is stored in the cache of Python's `huggingface_hub`, so that Python and this
    /// crate share the download: `HF_HUB_CACHE`, otherwise `hub` in `HF_HOME`, otherwise `huggingface/hub`
    /// in `XDG_CACHE_HOME` or `~/.cache`.
    #[must_use]
    pub fn hub(repo: impl Into<String>) -> Self {
        let (revision, file) = ("main".into(), "model.safetensors".into());
        Self::at(Place::Hub { repo: repo.into(), revision, file })
    }

    /// Uses a local file: `.pth` as written by `torch.save` in either of its formats, or safetensors.
    ///
    /// It may be a model written by [`Learner::export`](crate::learner::Learner::export), or a checkpoint
    /// of this crate or of fastai. Only the body and, if present, the normalization are used; the head of
    /// the new model stays new, so classes, channels and image size may differ.
    ///
    /// Names may be torchvision's or those of another well-known implementation of the network, with or
    /// without the prefix of a wrapper such as `module.` or `backbone.`. See the guide on
    /// [architectures](crate::guide::architectures).
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::File(path.into()))
    }

    /// Sets the branch, tag or commit of a [`hub`](Self::hub) repository. A commit never changes, so use one for
    /// reproducible programs. On another source, loading is an error. Default: `main`.
    #[must_use]
    pub fn revision(mut self, name: impl Into<String>) -> Self {
        match &mut self.place {
            Place::Hub { revision, .. } => *revision = name.into(),
            _ => self.misplaced = self.misplaced.or(Some("WeightsFrom::revision")),
        }
        self
    }

    /// Sets the file of a [`hub`](Self::hub) repository. On another source, loading is an error. Default:
    /// `model.safetensors`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        match &mut self.place {
            Place::Hub { file, .. } => *file = name.into(),
            _ => self.misplaced = self.misplaced.or(Some("WeightsFrom::named")),
        }
        self
    }

    /// Sets the normalization that the weights were trained with. Default: the one stored in a file of this
    /// crate, otherwise that of the weights published for the architecture, otherwise ImageNet's.
    ///
    /// ```
    /// use finetune::{model::WeightsFrom, transform::Normalize};
    ///
    /// let own = Normalize::new(vec![0.5; 3], vec![0.5; 3])?;
    /// let weights = WeightsFrom::file("weights/own.pth").normalize(own);
    /// # Ok::<(), finetune::Error>(())
    /// ```
    #[must_use]
    pub fn normalize(mut self, normalize: Normalize) -> Self {
        self.normalize = Some(normalize);
        self
    }

    /// Sets the number of retries of the download without progress. Default: 5. Use fewer if the program
    /// has an alternative.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.network.retries = Some(retries);
        self
    }

    /// Sets the timeout for a server that does not respond. Default: one minute.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.network.patience = Some(patience);
        self
    }

    /// Returns true if this is [`published`](Self::published).
    pub(crate) fn is_published(&self) -> bool {
        self.place == Place::Published
    }

    /// Returns `hub` with the options of this source.
    pub(super) fn at_hub(&self, hub: Self) -> Self {
        Self { place: hub.place, ..self.clone() }
    }

    /// Returns the normalization that was set.
    pub(crate) fn own_normalization(&self) -> Option<&Normalize> {
        self.normalize.as_ref()
    }

    /// Returns the path of the local file, which is downloaded if necessary. `published` is the URL of the
    /// published file, or torchvision's file name.
    ///
    /// With `FINETUNE_OFFLINE` set, nothing is downloaded; for hubs, `HF_HUB_OFFLINE` has the same effect.
    ///
    /// # Errors
    /// [`Error::Download`] if the file is not available, with the path to place it at; [`Error::Config`]
    /// for an invalid name, or for an option of a hub on another source; [`Error::Unsupported`] if no weights are published, or if the file does not exist and
    /// the feature `download` is disabled; [`Error::Io`] if the file cannot be written.
    pub fn fetch(&self, published: Option<&str>) -> Result<PathBuf> {
        if let Some(option) = self.misplaced {
            return Err(Error::config(option, "applies only to `WeightsFrom::hub`"));
        }
        match &self.place {
            Place::File(path) => Ok(path.clone()),
            Place::Published => {
                let file = published.ok_or_else(|| {
                    let why = "no weights are published for this architecture: use `WeightsFrom`, or \
                               `pretrained(false)`";
                    Error::unsupported("pretrained", why)
                })?;
                let (base, file) = file.rsplit_once('/').unwrap_or((PUBLISHED, file));
                let base = env::var("FINETUNE_WEIGHTS_URL").unwrap_or_else(|_| base.to_owned());
                checkpoint(&format!("{}/{file}", base.trim_end_matches('/')), file, self.network)
            }
            Place::Url(url) => {
                let name = url.split(['?', '#']).next().and_then(|u| u.rsplit('/').next());
                let name = name.filter(|n| plain(n)).ok_or_else(|| {
                    Error::config(
                        "WeightsFrom::url",
                        format!("`{url}` does not end in a file name"),
                    )
                })?;
                checkpoint(url, name, self.network)
            }
            Place::Hub { repo, revision, file } => hub(repo, revision, file, self.network),
        }
    }
}

impl From<&str> for WeightsFrom {
    /// Creates a source from a local file.
    fn from(path: &str) -> Self {
        Self::file(path)
    }
}

impl From<PathBuf> for WeightsFrom {
    fn from(path: PathBuf) -> Self {
        Self::file(path)
    }
}

impl From<&Path> for WeightsFrom {
    fn from(path: &Path) -> Self {
        Self::file(path)
    }
}

/// Returns true if a part of a path does not leave its folder.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['\\', '/', ':'])
}

/// Returns an environment variable that is not empty.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|v| !v.is_empty())
}

/// Returns the user's cache folder.
fn cache() -> PathBuf {
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let own = set("XDG_CACHE_HOME").map(PathBuf::from);
    own.or_else(|| home().map(|h| PathBuf::from(h).join(".cache"))).unwrap_or_default()
}

/// Returns the folder of PyTorch's downloads.
pub(crate) fn checkpoints() -> PathBuf {
    let home = set("TORCH_HOME").map_or_else(|| cache().join("torch"), PathBuf::from);
    home.join("hub").join("checkpoints")
}

/// Returns a file among PyTorch's checkpoints.
fn checkpoint(url: &str, name: &str, network: Network) -> Result<PathBuf> {
    let path = checkpoints().join(name);
    let converted = path.with_extension("safetensors");
    if !path.exists() && converted.exists() {
        return Ok(converted); // the user converted the weights
    }
    ensure(url, &path, hash_in_name(name), false, network)?;
    Ok(path)
}

/// Returns the digits of the SHA-256 in a file name of the form `NAME-DIGITS.EXTENSION`, as PyTorch uses
/// it.
fn hash_in_name(name: &str) -> Option<&str> {
    let digits = name.rsplit_once('.')?.0.rsplit_once('-')?.1;
    let is_hash = digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hash && digits.len() <= 64).then_some(digits)
}

/// Downloads the file to `path` unless it exists.
#[cfg(feature = "download")]
fn ensure(
    url: &str,
    path: &Path,
    sha256: Option<&str>,
    offline: bool,
    network: Network,
) -> Result<()> {
    use crate::download::{Download, offline_by_environment};

    let mut download = Download::new(url).offline(offline || offline_by_environment());
    if let Some(digits) = sha256 {
        download = download.sha256(digits);
    }
    if let Some(retries) = network.retries {
        download = download.retries(retries);
    }
    if let Some(patience) = network.patience {
        download = download.patience(patience);
    }
    download.fetch_to(path)
}

/// Checks that the file exists at `path`: this build has no network access.
#[cfg(not(feature = "download"))]
fn ensure(url: &str, path: &Path, _: Option<&str>, _: bool, _: Network) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let place = path.display();
    let why = format!(
        "this build does not have the feature `download`: place the file of {url} at {place}"
    );
    Err(Error::unsupported("download", why))
}

/// Returns a file of a hub repository: from Python's cache, this crate's cache, or the network.
///
/// Does not use the crate `hf-hub`, because version 1.0 adds an asynchronous runtime and a second HTTP
/// client. The hub serves files at plain URLs, and `Download` resumes, retries and waits for other
/// processes.
fn hub(repo: &str, revision: &str, file: &str, network: Network) -> Result<PathBuf> {
    let names = [repo, revision, file];
    if names.iter().any(|n| !n.split('/').all(plain) || n.contains(['?', '#', '%'])) {
        let why = format!("`{repo}` at `{revision}`, `{file}`: not all of them are valid names");
        return Err(Error::config("WeightsFrom::hub", why));
    }
    if let Some(cached) = python_has(repo, revision, file) {
        return Ok(cached);
    }
    // The cache of earlier versions of this crate.
    let own = cache().join("finetune").join("hub").join(repo).join(revision).join(file);
    if own.exists() {
        return Ok(own);
    }
    let endpoint = env::var("HF_ENDPOINT").ok().filter(|e| !e.is_empty());
    let endpoint = endpoint.as_deref().unwrap_or(HUB).trim_end_matches('/');
    let offline = set("HF_HUB_OFFLINE").is_some_and(|v| v != "0");
    let folder = python_folder(repo);
    let commit = commit(endpoint, repo, revision, &folder, offline, network);
    let at = commit.as_deref().unwrap_or(revision);
    let path = folder.join("snapshots").join(at).join(file);
    ensure(&format!("{endpoint}/{repo}/resolve/{at}/{file}"), &path, None, offline, network)?;
    if at != revision {
        let reference = folder.join("refs").join(revision);
        let parent = reference.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        fs::write(&reference, at).map_err(Error::io(&reference))?;
    }
    Ok(path)
}

/// Returns the commit of a branch or tag, according to the hub; `None` if the hub does not report it. A
/// file is then stored under the name of the branch, where [`python_has`] also finds it.
fn commit(
    endpoint: &str,
    repo: &str,
    revision: &str,
    folder: &Path,
    offline: bool,
    network: Network,
) -> Option<String> {
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_commit(revision) || offline {
        return None;
    }
    let answer = folder.join(format!(".revision-{}.json", std::process::id()));
    let url = format!("{endpoint}/api/models/{repo}/revision/{revision}");
    ensure(&url, &answer, None, false, network).ok()?;
    let text = fs::read(&answer);
    fs::remove_file(&answer).ok()?;
    let about: serde_json::Value = serde_json::from_slice(&text.ok()?).ok()?;
    about["sha"].as_str().filter(|sha| is_commit(sha)).map(ToOwned::to_owned)
}

/// Returns the folder of a repository in the cache of Python's `huggingface_hub`.
fn python_folder(repo: &str) -> PathBuf {
    let home = set("HF_HOME").map_or_else(|| cache().join("huggingface"), PathBuf::from);
    let hub = set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
    hub.join(format!("models--{}", repo.replace('/', "--")))
}

/// Returns the file in the cache of Python's `huggingface_hub`: `models--ORG--NAME/snapshots/COMMIT/FILE`,
/// where `refs/BRANCH` contains the commit.
fn python_has(repo: &str, revision: &str, file: &str) -> Option<PathBuf> {
    let repo = python_folder(repo);
    let commit = fs::read_to_string(repo.join("refs").join(revision));
    let commit = commit.map_or_else(|_| revision.to_owned(), |c| c.trim().to_owned());
    let path = repo.join("snapshots").join(plain(&commit).then_some(commit)?).join(file);
    path.exists().then_some(path)
}

/// Reads the named tensors of a file of weights in either format.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Checkpoint`] if it has neither format.
pub fn read_weights(path: impl AsRef<Path>) -> Result<StateDict> {
    Ok(read_described(path.as_ref())?.0)
}

/// As [`read_weights`], and returns the metadata of a safetensors file.
pub(super) fn read_described(path: &Path) -> Result<(StateDict, Metadata)> {
    let mut head = [0; 23];
    let read = File::open(path).and_then(|mut f| f.read(&mut head)).map_err(Error::io(path))?;
    if head == *b"version https://git-lfs" {
        let why =
            "is a pointer of Git LFS, without the weights: run `git lfs pull` in its repository";
        return Err(Error::checkpoint(path, why));
    }
    // Safetensors files begin with the length of a JSON header, followed by the header.
    let is_safetensors = read > 8 && head[8] == b'{';
    let is_pth = matches!(head, [b'P', b'K', 3, 4, ..] | [0x80, ..]);
    // The name decides only which error a file of neither format has.
    let is_named = path.extension().is_some_and(|extension| extension == "safetensors");
    if is_safetensors || (is_named && !is_pth) {
        return read_safetensors(path);
    }
    let why = |e: Error| Error::checkpoint(path, e.to_string());
    Ok((state_dict(read_pth(path)?).map_err(why)?, Metadata::default()))
}

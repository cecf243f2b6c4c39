//! The error type of the crate.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed error of any type, as wrapped by [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate. Every variant names what to look at: a path, an item, an option.
///
/// The text of [`Display`](fmt::Display) is complete: it contains the cause, so that
/// [`source`](std::error::Error::source) returns nothing that would repeat it. `Debug` prints the same text, so that
/// `fn main() -> finetune::Result<()>` ends with a readable message.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {cause}", path.display())]
    #[non_exhaustive]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A file or byte string cannot be decoded as an image.
    #[error("{item} cannot be decoded as an image: {cause}")]
    #[non_exhaustive]
    Image {
        /// The file, or another name of the item.
        item: String,
        /// The decoder's error.
        cause: BoxError,
    },
    /// An item has no label, or an invalid one.
    #[error("no label for {item}: {why}")]
    #[non_exhaustive]
    Label {
        /// The item.
        item: String,
        /// The reason, with advice.
        why: String,
    },
    /// A split has no items.
    #[error("the {split} split has no items: {why}")]
    #[non_exhaustive]
    EmptySplit {
        /// `training` or `validation`.
        split: &'static str,
        /// The advice.
        why: String,
    },
    /// The images of a batch differ in size.
    #[error(
        "{first} is {}x{} and {other} is {}x{}: add a `Resize` to `item_tfms`",
        first_size.0, first_size.1, other_size.0, other_size.1
    )]
    #[non_exhaustive]
    Collate {
        /// The first item of the batch.
        first: String,
        /// Its width and height in pixels.
        first_size: (u32, u32),
        /// The first item of another size.
        other: String,
        /// Its width and height in pixels.
        other_size: (u32, u32),
    },
    /// A transform failed on an item.
    #[error("{transform} failed on {item}: {cause}")]
    #[non_exhaustive]
    Transform {
        /// The `Debug` text of the transform.
        transform: String,
        /// The item.
        item: String,
        /// The error of the transform.
        cause: Box<Self>,
    },
    /// An option has an invalid value, or contradicts another one. Change the option.
    #[error("`{option}`{}{why}", separator(why))]
    #[non_exhaustive]
    Config {
        /// The name of the option, setter or function.
        option: &'static str,
        /// The reason, with the value and the valid ones.
        why: String,
    },
    /// Shapes, lengths, types or tasks of two things do not match. Change one of them.
    #[error("{what}: {why}")]
    #[non_exhaustive]
    Mismatch {
        /// The things compared.
        what: &'static str,
        /// Both sides, with their sizes.
        why: String,
    },
    /// The operation is not available for this kind of data, model, device or build.
    #[error("{what}: {why}")]
    #[non_exhaustive]
    Unsupported {
        /// The operation.
        what: &'static str,
        /// The reason, and the alternative if there is one.
        why: String,
    },
    /// A callback failed.
    #[error("`{callback}` failed in `{event}`: {cause}")]
    #[non_exhaustive]
    Callback {
        /// The name of the callback.
        callback: String,
        /// The event that it was handling.
        event: &'static str,
        /// Its error.
        cause: Box<Self>,
    },
    /// The loss is NaN or infinite.
    #[error(
        "the loss is {loss} at batch {batch} of epoch {epoch}: lower the learning rate, or check \
                  the items of that batch"
    )]
    #[non_exhaustive]
    NonFiniteLoss {
        /// The value.
        loss: f64,
        /// The epoch, from 0.
        epoch: usize,
        /// The batch, from 0.
        batch: usize,
    },
    /// Weights of a model are NaN or infinite, so its predictions are unusable.
    #[error(
        "`{name}` of the model has values that are NaN or infinite: lower the learning rate, and check \
         the items and the batch size"
    )]
    #[non_exhaustive]
    NonFiniteWeights {
        /// The first such parameter or buffer.
        name: String,
    },
    /// A data worker panicked, usually in a user's transform or data set.
    #[error("a data worker panicked: {why}")]
    #[non_exhaustive]
    Worker {
        /// The panic's message.
        why: String,
    },
    /// A model, a loss or a metric could not be computed.
    #[error("{what} failed: {cause}")]
    #[non_exhaustive]
    Computation {
        /// The computation, with the shapes of its inputs.
        what: String,
        /// The cause: libtorch's message, a panic, or another error.
        cause: Box<Self>,
    },
    /// User code panicked: a module, a loss, a metric, a callback or a transform.
    #[error("a panic at {place}: {why}")]
    #[non_exhaustive]
    Panic {
        /// The file, line and column of the panic.
        place: String,
        /// The panic's message.
        why: String,
    },
    /// A file of weights or a checkpoint cannot be used. Nothing was loaded.
    #[error("{}: {why}", path.display())]
    #[non_exhaustive]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Missing or unexpected variables and differing shapes, or other reasons.
        why: String,
    },
    /// The labels of an exported file differ from those of the model. The file was not written.
    #[error("{}: {why}", path.display())]
    #[non_exhaustive]
    Export {
        /// The file.
        path: PathBuf,
        /// The items and their labels, and what to do.
        why: String,
    },
    /// SIGINT or SIGTERM ended a run. Start the program again to continue it.
    #[error("{signal} ended the run: {}", interrupted(checkpoint.as_deref()))]
    #[non_exhaustive]
    Interrupted {
        /// `SIGINT` or `SIGTERM`.
        signal: &'static str,
        /// The newest checkpoint of this fit. `None` if none could be written.
        checkpoint: Option<PathBuf>,
    },
    /// Another process trains the run.
    #[error("the run `{run}` is trained by {holder}: wait for it, or use another name")]
    #[non_exhaustive]
    Busy {
        /// The name of the run.
        run: String,
        /// The process: its id, program and host.
        holder: String,
    },
    /// A download failed, or its content is not the expected one.
    #[error("{url}: {why}")]
    #[non_exhaustive]
    Download {
        /// The URL.
        url: String,
        /// The cause, and where to place the file manually.
        why: String,
    },
    /// An archive cannot be unpacked. No file of it is kept.
    #[error("{} cannot be unpacked: {why}", path.display())]
    #[non_exhaustive]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The reason, with advice.
        why: String,
    },
    /// A job of several processes cannot start, or one of its processes failed.
    #[error("{why}")]
    #[non_exhaustive]
    Distributed {
        /// The rank at fault, if known.
        rank: Option<usize>,
        /// The event, with advice.
        why: String,
    },
    /// libtorch returned an error.
    #[cfg(feature = "torch")]
    #[error("libtorch: {}", torch_message(.0))]
    Torch(tch::TchError),
    /// A user's error, from a callback, a transform or a closure.
    #[error("{0}")]
    Other(BoxError),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for Error {
    fn from(e: tch::TchError) -> Self {
        Self::Torch(e)
    }
}

/// Separates an option from the reason, which may be a predicate such as "is 0; it must be 1 or more".
fn separator(why: &str) -> &'static str {
    let predicate = ["is ", "are ", "must ", "needs ", "cannot ", "contradicts "];
    if predicate.iter().any(|start| why.starts_with(start)) { " " } else { ": " }
}

/// Describes how to resume an interrupted run.
fn interrupted(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("start the program again to resume from {}", path.display()),
        None => "no checkpoint could be written; the run resumes from an earlier one or starts from scratch"
            .to_owned(),
    }
}

/// Returns libtorch's message without the C++ stack trace.
#[cfg(feature = "torch")]
fn torch_message(e: &tch::TchError) -> String {
    let text = e.to_string();
    let end = text.find("\nException raised from").unwrap_or(text.len());
    text[..end].trim_end().to_owned()
}

impl Error {
    /// Wraps an error of any type, for use in a callback or a transform.
    ///
    /// ```
    /// let e = finetune::Error::other("no disk");
    /// assert_eq!(e.to_string(), "no disk");
    /// ```
    pub fn other(cause: impl Into<BoxError>) -> Self {
        Self::Other(cause.into())
    }

    /// Returns a [`Config`](Self::Config): an option with an invalid value.
    pub fn config(option: &'static str, why: impl Into<String>) -> Self {
        Self::Config { option, why: why.into() }
    }

    /// Returns a [`Mismatch`](Self::Mismatch): two things that do not match.
    pub fn mismatch(what: &'static str, why: impl Into<String>) -> Self {
        Self::Mismatch { what, why: why.into() }
    }

    /// Returns an [`Unsupported`](Self::Unsupported): an operation that is not available here.
    pub fn unsupported(what: &'static str, why: impl Into<String>) -> Self {
        Self::Unsupported { what, why: why.into() }
    }

    /// Returns an [`Image`](Self::Image): a file or byte string that cannot be decoded, for a data set of your own.
    pub fn image(item: impl Into<String>, cause: impl Into<BoxError>) -> Self {
        Self::Image { item: item.into(), cause: cause.into() }
    }

    /// Returns a [`Label`](Self::Label): an item without a valid label, for a labeller or target block of your own.
    pub fn label(item: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Label { item: item.into(), why: why.into() }
    }

    /// Returns an [`EmptySplit`](Self::EmptySplit): a `training` or `validation` split without items.
    pub fn empty_split(split: &'static str, why: impl Into<String>) -> Self {
        Self::EmptySplit { split, why: why.into() }
    }

    /// Returns a [`Collate`](Self::Collate): two images of a batch whose sizes (width, height) differ.
    pub fn collate(
        first: impl Into<String>,
        first_size: (u32, u32),
        other: impl Into<String>,
        other_size: (u32, u32),
    ) -> Self {
        Self::Collate { first: first.into(), first_size, other: other.into(), other_size }
    }

    /// Returns a [`Callback`](Self::Callback): a callback that failed in `event`.
    pub fn callback(callback: impl Into<String>, event: &'static str, cause: Self) -> Self {
        Self::Callback { callback: callback.into(), event, cause: Box::new(cause) }
    }

    /// Returns a [`NonFiniteLoss`](Self::NonFiniteLoss): a loss that is NaN or infinite. Epoch and batch count from 0.
    #[must_use]
    pub fn non_finite_loss(loss: f64, epoch: usize, batch: usize) -> Self {
        Self::NonFiniteLoss { loss, epoch, batch }
    }

    /// Returns a [`NonFiniteWeights`](Self::NonFiniteWeights): the first parameter or buffer with such values.
    pub fn non_finite_weights(name: impl Into<String>) -> Self {
        Self::NonFiniteWeights { name: name.into() }
    }

    /// Returns a [`Worker`](Self::Worker): a data worker that panicked.
    pub fn worker(why: impl Into<String>) -> Self {
        Self::Worker { why: why.into() }
    }

    /// Returns a [`Panic`](Self::Panic): a panic of code that was given to the crate.
    pub fn panic(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Panic { place: place.into(), why: why.into() }
    }

    /// Returns a [`Checkpoint`](Self::Checkpoint): a file of weights or a checkpoint that cannot be used.
    pub fn checkpoint(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), why: why.into() }
    }

    /// Returns an [`Export`](Self::Export): an exported file whose labels differ from those of the model.
    pub fn export(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Export { path: path.into(), why: why.into() }
    }

    /// Returns an [`Interrupted`](Self::Interrupted): a run that a signal ended, with its newest checkpoint.
    #[must_use]
    pub fn interrupted(signal: &'static str, checkpoint: Option<PathBuf>) -> Self {
        Self::Interrupted { signal, checkpoint }
    }

    /// Returns a [`Busy`](Self::Busy): a run that another process trains.
    pub fn busy(run: impl Into<String>, holder: impl Into<String>) -> Self {
        Self::Busy { run: run.into(), holder: holder.into() }
    }

    /// Returns a [`Download`](Self::Download): a download that failed, or whose content is not the expected one.
    pub fn download(url: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Download { url: url.into(), why: why.into() }
    }

    /// Returns an [`Archive`](Self::Archive): an archive that cannot be unpacked.
    pub fn archive(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Archive { path: path.into(), why: why.into() }
    }

    /// Returns a [`Distributed`](Self::Distributed): a failure between processes.
    pub fn distributed(rank: Option<usize>, why: impl Into<String>) -> Self {
        Self::Distributed { rank, why: why.into() }
    }

    /// Returns a function that turns an error into a [`Computation`](Self::Computation) that names what was
    /// computed.
    pub fn computation(what: impl FnOnce() -> String) -> impl FnOnce(Self) -> Self {
        move |cause| Self::Computation { what: what(), cause: Box::new(cause) }
    }

    /// Returns a function that turns an I/O error into an [`Io`](Self::Io) that names the file or folder.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }

    /// Returns a function that turns the error of a transform into a [`Transform`](Self::Transform) that names it
    /// and the item.
    pub fn transform(
        transform: &dyn fmt::Debug,
        item: impl Into<String>,
    ) -> impl FnOnce(Self) -> Self {
        let (transform, item) = (format!("{transform:?}"), item.into());
        move |cause| Self::Transform { transform, item, cause: Box::new(cause) }
    }
}

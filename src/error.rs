//! What can go wrong, in one enum.

use std::{io, path::PathBuf};

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of any kind, as wrapped by [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong. Every variant names the thing to look at: a path, an item, an option.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is no image that can be decoded.
    #[error("{item} cannot be decoded as an image: {source}")]
    Image {
        /// The file, or what else names the item.
        item: String,
        /// What the decoder said.
        source: BoxError,
    },
    /// An item has no label, or one that does not fit.
    #[error("no label for {item}: {why}")]
    Label {
        /// The item.
        item: String,
        /// What is wrong with it, and what would help.
        why: String,
    },
    /// A split has no items.
    #[error("the {split} split has no items: {why}")]
    EmptySplit {
        /// `training` or `validation`.
        split: &'static str,
        /// What would help.
        why: String,
    },
    /// The images of a batch differ in size.
    #[error(
        "{first} is {}x{} and {other} is {}x{}: add a `Resize` to `item_tfms`",
        first_size.0, first_size.1, other_size.0, other_size.1
    )]
    Collate {
        /// The first item of the batch.
        first: String,
        /// Its width and height in pixels.
        first_size: (u32, u32),
        /// The item that differs.
        other: String,
        /// Its width and height in pixels.
        other_size: (u32, u32),
    },
    /// A transform failed on an item.
    #[error("{transform} failed on {item}: {source}")]
    Transform {
        /// The transform, as it describes itself.
        transform: String,
        /// The item.
        item: String,
        /// Why.
        source: Box<Self>,
    },
    /// An option has a value that cannot be used. Found before any work starts.
    #[error("`{option}`: {why}")]
    Config {
        /// The option, as it is called in the code.
        option: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A callback failed.
    #[error("`{callback}` failed in `{event}`: {source}")]
    Callback {
        /// Its name.
        callback: String,
        /// The event it was handling.
        event: &'static str,
        /// Why.
        source: Box<Self>,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss is {loss} at batch {batch} of epoch {epoch}: lower the learning rate, or look \
         at the items of that batch"
    )]
    NonFiniteLoss {
        /// The value.
        loss: f64,
        /// The epoch, from 0.
        epoch: usize,
        /// The batch, from 0.
        batch: usize,
    },
    /// A data worker panicked, most likely in a user's transform or dataset.
    #[error("a data worker panicked: {why}")]
    Worker {
        /// The panic's message.
        why: String,
    },
    /// A file of weights cannot be used. Nothing was loaded from it.
    #[error("{}: {why}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is missing, unexpected or of another shape.
        why: String,
    },
    /// A download failed, or what came is not what was promised.
    #[error("{url}: {why}")]
    Download {
        /// What was asked for.
        url: String,
        /// What happened, and where to place the file by hand.
        why: String,
    },
    /// An archive cannot be unpacked. Nothing of it was kept.
    #[error("{} cannot be unpacked: {why}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it, and what would help.
        why: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {}", torch_message(.0))]
    Torch(#[from] tch::TchError),
    /// An error of the caller's own, from a callback, a transform or a closure.
    #[error(transparent)]
    Other(BoxError),
}

/// libtorch's message without the C++ stack trace that it appends.
fn torch_message(e: &tch::TchError) -> String {
    let text = e.to_string();
    let end = text.find("\nException raised from").unwrap_or(text.len());
    text[..end].trim_end().to_owned()
}

impl Error {
    /// Wraps an error of the caller's own, for use inside a callback or a transform.
    ///
    /// ```
    /// let e = finetune::Error::other("no disk");
    /// assert_eq!(e.to_string(), "no disk");
    /// ```
    pub fn other(source: impl Into<BoxError>) -> Self {
        Self::Other(source.into())
    }

    /// An option that cannot be used, and why.
    pub fn config(option: &'static str, why: impl Into<String>) -> Self {
        Self::Config { option, why: why.into() }
    }

    /// Names the file or folder that an I/O error is about.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

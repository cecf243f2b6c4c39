//! Image sources, and the kind of image that a block produces.

use crate::{
    error::Result,
    image::{Decode, Image},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The source of an item's image: the type that `get_x` returns, or that its result is converted to.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// A file.
    File(PathBuf),
    /// The bytes of an image file in memory.
    Bytes(Arc<[u8]>),
    /// A decoded image in memory.
    Image(Arc<Image>),
}

impl std::fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Image(image) => image.fmt(f),
        }
    }
}

impl From<PathBuf> for ImageSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&PathBuf> for ImageSource {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Path> for ImageSource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_path_buf())
    }
}

impl From<&str> for ImageSource {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<String> for ImageSource {
    fn from(path: String) -> Self {
        Self::File(path.into())
    }
}

impl From<Vec<u8>> for ImageSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Arc<[u8]>> for ImageSource {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Image> for ImageSource {
    fn from(image: Image) -> Self {
        Self::Image(image.into())
    }
}

/// The input block: images with three channels or one, and how files are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageBlock {
    decode: Decode,
}

impl From<Decode> for ImageBlock {
    fn from(decode: Decode) -> Self {
        Self { decode }
    }
}

impl ImageBlock {
    /// Returns a block of color images with three channels; other files are converted.
    #[must_use]
    pub fn rgb() -> Self {
        Self { decode: Decode::new() }
    }

    /// Returns a block of gray images with one channel; other files are converted.
    #[must_use]
    pub fn gray() -> Self {
        Self { decode: Decode::new().channels(1) }
    }

    /// If true, images are rotated by their EXIF orientation. fastai ignores it. Default: true.
    #[must_use]
    pub fn orient(self, orient: bool) -> Self {
        Self { decode: self.decode.orient(orient) }
    }

    /// Sets the maximum number of pixels. Larger images are an error before memory is allocated for them.
    /// Default: 2^28, for example 16,384 × 16,384.
    #[must_use]
    pub fn max_pixels(self, max_pixels: u64) -> Self {
        Self { decode: self.decode.max_pixels(max_pixels) }
    }

    /// Decodes large JPEG files at a reduced size: at a half, a quarter or an eighth of both sides, as long
    /// as the shorter side has at least `shorter` pixels. Training, validation and an exported model decode
    /// in the same way. Default: full size, as in fastai. See [`Decode::reduce_to`].
    ///
    /// ```
    /// use finetune::{data::{CategoryBlock, DataBlock, ImageBlock}, transform::Resize};
    ///
    /// let photos = DataBlock::blocks(ImageBlock::rgb().reduce_to(460), CategoryBlock::new())
    ///     .item_tfms(Resize::new(460));
    /// ```
    #[must_use]
    pub fn reduce_to(self, shorter: u32) -> Self {
        Self { decode: self.decode.reduce_to(shorter) }
    }

    /// Returns the decoding options as data, for an exported model.
    #[must_use]
    pub fn decode_options(&self) -> Decode {
        self.decode
    }

    /// Returns the image of `source`, decoded by content.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if its file cannot be read, [`Error::Image`](crate::Error::Image) if
    /// it cannot be decoded or has too many pixels. Both name the file, or otherwise `name`.
    pub fn open(&self, source: &ImageSource, name: &str) -> Result<Image> {
        match source {
            ImageSource::File(path) => self.decode.open(path),
            ImageSource::Bytes(bytes) => self.decode.read(bytes, name),
            ImageSource::Image(image) => self.decode.convert(image),
        }
    }
}

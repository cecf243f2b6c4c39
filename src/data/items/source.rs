//! Where the image of an item is, and what kind of image a block wants.

use crate::{
    error::Result,
    image::{Decode, Image},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the image of an item is: what `get_x` returns, or something that turns into it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// In a file.
    File(PathBuf),
    /// In memory, as the bytes of a file.
    Bytes(Arc<[u8]>),
    /// In memory, decoded.
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

/// What inputs are: images with three channels or one, and how files become them.
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
    /// Color images: three channels, whatever the file has.
    #[must_use]
    pub fn rgb() -> Self {
        Self { decode: Decode::new() }
    }

    /// Gray images: one channel, whatever the file has.
    #[must_use]
    pub fn gray() -> Self {
        Self { decode: Decode::new().channels(1) }
    }

    /// Whether to turn a picture as its EXIF data says the camera was held. fastai does not. Default:
    /// true.
    #[must_use]
    pub fn orient(self, orient: bool) -> Self {
        Self { decode: self.decode.orient(orient) }
    }

    /// Images with more pixels are refused before memory is taken for them. Default: 2^28, that is
    /// 16,384 in square.
    #[must_use]
    pub fn max_pixels(self, max_pixels: u64) -> Self {
        Self { decode: self.decode.max_pixels(max_pixels) }
    }

    /// Decodes JPEG files only as large as needed: at a half, a quarter or an eighth of both sides, if the shorter side
    /// still has at least `shorter` pixels. Training, validation and an exported model decode alike.
    /// Default: in full, as fastai does. See [`Decode::reduce_to`].
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

    /// The same as data, for an exported model.
    #[must_use]
    pub fn decode_options(&self) -> Decode {
        self.decode
    }

    /// The image of `source`, decoded by content.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if its file cannot be read,
    /// [`Error::Image`](crate::Error::Image) if it is no image that can be
    /// decoded or has more than the most pixels. Both name the file, or else `name`.
    pub fn open(&self, source: &ImageSource, name: &str) -> Result<Image> {
        match source {
            ImageSource::File(path) => self.decode.open(path),
            ImageSource::Bytes(bytes) => self.decode.read(bytes, name),
            ImageSource::Image(image) => self.decode.convert(image),
        }
    }
}

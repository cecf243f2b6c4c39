//! Targets of a code for each pixel.

use super::category::TargetBlock;
use crate::{
    data::items::source::ImageSource,
    error::{Error, Result},
    image::{Codes, Image},
    sample::{Target, Task},
};
use std::{collections::HashMap, sync::Arc};

/// A code for each pixel, from a mask in a file or in memory: fastai's
/// [`MaskBlock`](https://docs.fast.ai/vision.data.html#maskblock).
///
/// `get_y` returns the source of an item's mask. Masks are opened each time their image is, and must have
/// its size. A file contains the index of a code in each pixel: as palette index of a PNG file, as gray
/// value, or as 1 bit; see [`Codes`]. fastai converts palettes to gray levels first, which are not indices.
///
/// ```no_run
/// use finetune::data::{DataBlock, ImageBlock, MaskBlock, get_image_files};
/// use std::path::PathBuf;
///
/// let dls = DataBlock::blocks(ImageBlock::rgb(), MaskBlock::new(["background", "pet"]))
///     .get_items(get_image_files)
///     .get_y(|photo: &PathBuf| {
///         let mask = PathBuf::from("masks").join(photo.file_name().unwrap_or_default());
///         Ok(mask.with_extension("png").into())
///     })
///     .dataloaders("photos")?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaskBlock {
    codes: Arc<[String]>,
    colors: Option<Arc<HashMap<[u8; 3], u8>>>,
    n_colors: usize,
    div: f32,
    ignored: Option<u8>,
}

impl MaskBlock {
    /// Creates the block from the names of the codes 0, 1 and so on, at most 256.
    pub fn new<S: Into<String>>(codes: impl IntoIterator<Item = S>) -> Self {
        let codes = codes.into_iter().map(Into::into).collect();
        Self { codes, colors: None, n_colors: 0, div: 1.0, ignored: None }
    }

    /// Sets the color of each code, for masks that contain colors, themselves or in a palette. Default: none;
    /// masks contain codes.
    #[must_use]
    pub fn colors(mut self, colors: impl IntoIterator<Item = [u8; 3]>) -> Self {
        let colors: Vec<[u8; 3]> = colors.into_iter().collect();
        self.n_colors = colors.len();
        self.colors = Some(Arc::new((0..=u8::MAX).zip(colors).map(|(i, c)| (c, i)).collect()));
        self
    }

    /// Sets the divisor that converts values to codes, rounding down: 255 for masks of 0 and 255. fastai's
    /// `IntToFloatTensor(div_mask=…)`. Default: 1.
    #[must_use]
    pub fn div_mask(mut self, div: f32) -> Self {
        self.div = div;
        self
    }

    /// Sets the value of pixels that losses and metrics ignore: a code, or another value such as 255.
    /// Default: none.
    #[must_use]
    pub fn ignored(mut self, value: u8) -> Self {
        self.ignored = Some(value);
        self
    }

    fn by_color(&self, image: &Image) -> Result<Image> {
        let Some(colors) = &self.colors else {
            let why = "the mask has colors, not codes: set the color of each code in `MaskBlock` with \
                       `colors`. The numbers of a palette are read only from PNG files: convert a BMP, \
                       GIF or TIFF file with a palette to PNG";
            return Err(invalid(why));
        };
        let mut codes = Vec::with_capacity(image.pixels().len() / 3);
        for (i, pixel) in image.pixels().chunks_exact(3).enumerate() {
            let color = [pixel[0], pixel[1], pixel[2]];
            match colors.get(&color) {
                Some(code) => codes.push(*code),
                None => {
                    let (x, y) = place(i, image);
                    let why = format!(
                        "the mask's pixel at column {x}, row {y} is {color:?}, which is not the \
                         color of a code"
                    );
                    return Err(invalid(why));
                }
            }
        }
        Image::new(image.width(), image.height(), 1, codes)
    }

    /// Returns the codes of a mask.
    fn codes_of(&self, codes: Codes) -> Result<Image> {
        let mut image = match codes {
            Codes::Numbers(image) => image,
            Codes::Colors(image) => self.by_color(&image)?,
            other => return Err(Error::unsupported("mask", format!("no codes in {other:?}"))),
        };
        if self.div != 1.0 {
            let (width, height) = (image.width(), image.height());
            // As in fastai: a division of 32-bit floats, truncated.
            let divided = |v: u8| (f32::from(v) / self.div) as i64;
            let divided = image.pixels().iter().map(|&v| {
                let ignored = self.ignored == Some(v);
                if ignored { Ok(v) } else { u8::try_from(divided(v)).map_err(|_| divided(v)) }
            });
            let pixels = divided.collect::<Result<Vec<u8>, i64>>().map_err(|value| {
                let why = format!("`div_mask` is {}, which gives {value} for a pixel", self.div);
                invalid(why)
            })?;
            image = Image::new(width, height, 1, pixels)?;
        }
        let n = self.codes.len();
        let beyond = |v: u8| usize::from(v) >= n && self.ignored != Some(v);
        if let Some(i) = image.pixels().iter().position(|&v| beyond(v)) {
            let (x, y) = place(i, &image);
            let why = format!(
                "the mask's pixel at column {x}, row {y} is {}, but there are {n} codes, from 0: \
                 add codes, or set `ignored` or `div_mask`",
                image.pixels()[i]
            );
            return Err(invalid(why));
        }
        Ok(image)
    }
}

/// Returns the error of an invalid mask. The loader replaces the item by the image.
fn invalid(why: impl Into<String>) -> Error {
    Error::label("the mask", why)
}

/// Returns the column and row of the i-th pixel.
fn place(i: usize, image: &Image) -> (usize, usize) {
    let width = image.width() as usize;
    (i % width, i / width)
}

impl TargetBlock for MaskBlock {
    type Label = ImageSource;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &ImageSource>) -> Result<()> {
        let n = self.codes.len();
        if !(2..=256).contains(&n) {
            let why = format!("there are {n} codes; a mask needs 2 to 256");
            return Err(Error::config("MaskBlock::new", why));
        }
        if self.colors.as_ref().is_some_and(|c| c.len() != n || self.n_colors != n) {
            let distinct = self.colors.as_ref().map_or(0, |c| c.len());
            let why =
                format!("there are {distinct} distinct colors of {} for {n} codes", self.n_colors);
            return Err(Error::config("MaskBlock::colors", why));
        }
        if !(self.div > 0.0 && self.div.is_finite()) {
            let why = format!("is {}; it must be positive", self.div);
            return Err(Error::config("MaskBlock::div_mask", why));
        }
        Ok(())
    }

    fn check(&self, label: &ImageSource) -> Result<()> {
        let ImageSource::File(path) = label else { return Ok(()) };
        std::fs::metadata(path).map(drop).map_err(Error::io(path))
    }

    fn encode(&self, label: &ImageSource) -> Result<Target> {
        let read = |bytes: &[u8], name: &str| match self.colors {
            // The order of a palette is that of the program that wrote the file.
            Some(_) => Codes::read_colors(bytes, name),
            None => Codes::read(bytes, name),
        };
        let codes = match label {
            ImageSource::File(path) => {
                let bytes = std::fs::read(path).map_err(Error::io(path))?;
                read(&bytes, &path.display().to_string())?
            }
            ImageSource::Bytes(bytes) => read(bytes, "the mask")?,
            ImageSource::Image(image) => Codes::of((**image).clone()),
            other => return Err(Error::unsupported("mask", format!("cannot open {other:?}"))),
        };
        self.codes_of(codes).map(Target::Mask).map_err(|e| match (e, label) {
            // The item of the error becomes the image, so its reason names the file.
            (Error::Label { item, why, .. }, ImageSource::File(path)) => {
                Error::label(item, format!("{}: {why}", path.display()))
            }
            (e, _) => e,
        })
    }

    /// Returns the mask itself.
    fn decode(&self, target: &Target) -> Option<ImageSource> {
        let Target::Mask(mask) = target else { return None };
        Some(mask.clone().into())
    }

    fn task(&self) -> Task {
        Task::Mask { codes: self.codes.clone(), ignored: self.ignored }
    }

    fn deferred(&self) -> bool {
        true
    }
}

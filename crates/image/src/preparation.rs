//! Prepares images for a network, as in validation. Every predictor uses it.

use crate::{
    error::{Error, Result},
    image::{Decode, Image},
    sample::{Placement, Sample, Split, Target},
    seed::{Seed, Stream},
    source::{ImageBlock, ImageSource},
    transform::{self, BatchSpec, BatchTransform, ItemSpec, ItemTransform, Plan},
};
use std::sync::Arc;

/// Decodes and transforms images as in validation. Threads can share it.
#[derive(Debug, Clone)]
pub struct Preparation {
    images: ImageBlock,
    item_tfms: Vec<Arc<dyn ItemTransform>>,
    batch_tfms: Vec<Arc<dyn BatchTransform>>,
}

impl Preparation {
    /// Builds the transforms that an exported model describes.
    ///
    /// # Errors
    /// [`Error::Config`] if an option of a transform is invalid.
    pub fn new(decode: Decode, item_tfms: &[ItemSpec], batch_tfms: &[BatchSpec]) -> Result<Self> {
        let item_tfms: Vec<_> = item_tfms.iter().map(ItemSpec::build).collect();
        let batch_tfms: Vec<_> = batch_tfms.iter().map(BatchSpec::build).collect();
        item_tfms.iter().try_for_each(|tfm| tfm.check())?;
        batch_tfms.iter().try_for_each(|tfm| tfm.check())?;
        Ok(Self { images: decode.into(), item_tfms, batch_tfms })
    }

    /// Decodes an image with the model's decoding options. Errors call an image in memory `name`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if the file cannot be read or decoded.
    pub fn open(&self, image: &ImageSource, name: &str) -> Result<Image> {
        self.images.open(image, name)
    }

    /// Decodes an image and applies the item transforms. Errors call an image in memory `name`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Image`] if the file cannot be read or decoded; [`Error::Transform`] if a
    /// transform fails.
    pub fn sample(&self, image: &ImageSource, name: &str) -> Result<Sample> {
        let image = self.open(image, name)?;
        let mut rng = Seed(0).rng(Stream::Split); // validation does not depend on random draws
        let sample = Sample::new(image, Target::None);
        let item = || name.to_owned();
        let split = Split::Valid;
        transform::apply_item_tfms(&self.item_tfms, sample, split, &mut rng, item, |_, _| {})
    }

    /// Plans the batch transforms for samples of one size. Errors call sample `i` "image `from + i`".
    ///
    /// # Errors
    /// [`Error::Config`] if there is no sample or a transform cannot be planned; [`Error::Collate`] if sizes
    /// differ; [`Error::Mismatch`] if the numbers of channels differ.
    pub fn batch(&self, samples: Vec<Sample>, from: usize) -> Result<Prepared> {
        let Some(first) = samples.first().map(|s| &s.image) else {
            return Err(Error::config("Preparation::batch", "there is no sample"));
        };
        let size = |image: &Image| (image.width(), image.height());
        let (n, first_size, channels) = (samples.len(), size(first), first.channels());
        for (k, sample) in samples.iter().enumerate() {
            let (other, its) = (format!("image {}", from + k), size(&sample.image));
            if its != first_size {
                return Err(Error::collate(format!("image {from}"), first_size, other, its));
            }
            if sample.image.channels() != channels {
                let why = format!(
                    "{other} has {} channels, image {from} has {channels}",
                    sample.image.channels()
                );
                return Err(Error::mismatch("Preparation::batch", why));
            }
        }
        let mut rng = Seed(0).rng(Stream::Split);
        let plan =
            transform::plan(&self.batch_tfms, n, first_size, channels, Split::Valid, &mut rng)?;
        let place = |(i, s): (usize, &Sample)| s.placement().map(|p| plan.placement(i, p));
        let placements = samples.iter().enumerate().map(place).collect();
        let mut images = samples.into_iter().map(|s| s.image);
        let mut pixels = images.next().map(Image::into_pixels).unwrap_or_default();
        pixels.reserve_exact(pixels.len() * (n - 1));
        images.for_each(|image| pixels.extend_from_slice(image.pixels()));
        Ok(Prepared { plan, pixels, placements })
    }
}

/// A batch of images after the item transforms, and the plan of its batch transforms.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Prepared {
    /// The plan of the batch transforms.
    pub plan: Plan,
    /// The pixels after the item transforms, `[N, H, W, C]`.
    pub pixels: Vec<u8>,
    /// The position of each input of the network in its original image, if known.
    pub placements: Vec<Option<Placement>>,
}

impl Prepared {
    /// Returns the images after all transforms, `[N, H, W, C]`, with their width and height. It runs on the
    /// CPU, without libtorch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a transform is a closure over tensors.
    pub fn floats(&self) -> Result<(Vec<f32>, (u32, u32))> {
        let mut done: Option<(Vec<f32>, (u32, u32))> = None;
        for pass in self.plan.passes() {
            if pass.has_steps() {
                let why = "a closure over tensors needs libtorch";
                return Err(Error::unsupported("batch transforms", why));
            }
            let floats = match &done {
                None => pass.execute(&self.pixels, false)?,
                Some((floats, _)) => pass.execute_floats(floats, false)?,
            };
            done = Some((floats, pass.output_size()));
        }
        // A plan has one pass or more.
        done.ok_or_else(|| Error::config("Prepared::floats", "the plan has no pass"))
    }
}

//! Published weights, and the preprocessing of images for them.

use super::WeightsFrom;
use crate::{
    image::Filter,
    transform::{CropPad, Method, Normalize, Resize},
};

/// Weights published by torchvision or timm, and the preprocessing with which they were validated.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Weights {
    /// torchvision's name, such as `IMAGENET1K_V1`, or timm's tag, such as `in12k_ft_in1k`.
    pub name: &'static str,
    /// The file. torchvision's name has the start of its SHA-256 before the extension.
    pub file: &'static str,
    /// The repository of the model hub that contains the file; `None` for torchvision's server.
    pub repo: Option<&'static str>,
    /// The height and width of the images, in pixels.
    pub size: [i64; 2],
    /// The mean of each channel, for values from 0 to 1.
    pub mean: [f32; 3],
    /// The standard deviation of each channel.
    pub std: [f32; 3],
    /// The interpolation for resizing.
    pub interpolation: Filter,
    /// The fraction of the shorter side of an image that the center crop keeps: an image is first resized
    /// to `size / crop_pct`.
    pub crop_pct: f32,
    /// The treatment of images that are not square before the center crop: [`Method::Crop`] cuts off the longer
    /// side, [`Method::Squish`] is timm's `squash`.
    pub method: Method,
    /// The number of outputs of the classifier; 0 if the weights have none.
    pub classes: usize,
    /// The license of the weights, if the publisher states one.
    pub license: Option<&'static str>,
    /// The URL of the folder of the file, if it is not in a repository.
    pub(super) base: &'static str,
}

impl Weights {
    /// Creates an entry for torchvision's weights for images of 224×224 pixels.
    pub(super) const fn torchvision(name: &'static str, file: &'static str, crop_pct: f32) -> Self {
        Self {
            name,
            file,
            repo: None,
            size: [224, 224],
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            interpolation: Filter::Bilinear,
            crop_pct,
            method: Method::Crop,
            classes: 1000,
            license: None,
            base: "https://download.pytorch.org/models",
        }
    }

    /// Creates an entry for Google's weights, trained on values from -1 to 1, at timm's original URL.
    pub(super) const fn google(name: &'static str, file: &'static str) -> Self {
        Self {
            mean: [0.5; 3],
            std: [0.5; 3],
            interpolation: Filter::Bicubic,
            license: Some("apache-2.0"),
            base: "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights",
            ..Self::torchvision(name, file, 0.875)
        }
    }

    /// Returns the normalization that the weights were trained with.
    #[must_use]
    pub fn normalize(&self) -> Normalize {
        Normalize::rgb(self.mean, self.std)
    }

    /// Returns the URL of the weights.
    #[must_use]
    pub fn url(&self) -> String {
        match self.repo {
            None => format!("{}/{}", self.base, self.file),
            Some(repo) => format!("https://huggingface.co/{repo}/resolve/main/{}", self.file),
        }
    }

    /// Returns the size to which the shorter side of an image is resized before the center crop, in pixels.
    ///
    /// ```
    /// let weights = *finetune::model::resnet34().weights().unwrap();
    /// assert_eq!((weights.resize(), weights.size), (256, [224, 224]));
    /// ```
    #[must_use]
    pub fn resize(&self) -> i64 {
        self.before_crop(self.size[0].min(self.size[1]))
    }

    /// Returns a side of the image before the center crop.
    fn before_crop(&self, side: i64) -> i64 {
        // The fraction is rounded, so the quotient can be slightly below the number of pixels that was meant.
        (side as f64 / f64::from(self.crop_pct) + 1e-2).floor() as i64
    }

    /// Returns the first of the two transforms with which the weights were validated: it resizes images with
    /// [`interpolation`](Self::interpolation). [`crop_tfm`](Self::crop_tfm) is the second. Use both for images that
    /// are not augmented, for example with [`Learner::probe`](crate::learner::Learner::probe), or with the network's
    /// own classes. In training, the part of a longer side is at a random position.
    ///
    /// ```
    /// use finetune::{model::by_name, prelude::*, transform::{CropPad, Resize}, image::Filter};
    ///
    /// let arch = by_name("convnext_tiny.in12k_ft_in1k")?;
    /// let weights = arch.weights().unwrap();
    /// let block = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
    ///     .get_items(get_image_files)
    ///     .get_y(parent_label)
    ///     .item_tfms(weights.resize_tfm())
    ///     .item_tfms(weights.crop_tfm());
    /// assert_eq!(weights.resize_tfm(), Resize::new(235).filter(Filter::Bicubic));
    /// assert_eq!(weights.crop_tfm(), CropPad::new(224));
    /// # drop(block);
    /// # Ok::<(), finetune::Error>(())
    /// ```
    #[must_use]
    pub fn resize_tfm(&self) -> Resize {
        let [height, width] = self.size.map(|side| self.before_crop(side) as u32);
        Resize::hw(height, width).method(self.method).filter(self.interpolation)
    }

    /// Returns the second of the two transforms with which the weights were validated: it crops the center to
    /// [`size`](Self::size), after [`resize_tfm`](Self::resize_tfm).
    #[must_use]
    pub fn crop_tfm(&self) -> CropPad {
        let [height, width] = self.size.map(|side| side as u32);
        CropPad::hw(height, width)
    }

    /// Returns the source of the weights for [`WeightsFrom::published`].
    pub(super) fn place(&self) -> Option<WeightsFrom> {
        self.repo.map(|repo| WeightsFrom::hub(repo).named(self.file))
    }
}

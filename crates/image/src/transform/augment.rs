//! The standard augmentations.

use super::{
    BatchSpec, BatchTransform, Brightness, Contrast, Dihedral, Flip, Mode, Plan,
    RandomResizedCropGpu, Resampling, Rotate, Warp, Zoom, geometry::Geometry,
};
use crate::{
    error::{Error, Result},
    image::PadMode,
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use std::sync::Arc;

/// The standard augmentations of a batch, composed into one resampling; see [`aug_transforms`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Augment {
    mult: f64,
    do_flip: bool,
    flip_vert: bool,
    max_rotate: f64,
    min_zoom: f64,
    max_zoom: f64,
    max_lighting: f64,
    max_warp: f64,
    p_affine: f64,
    p_lighting: f64,
    size: Option<(u32, u32)>,
    #[serde(default)]
    mode: Mode,
    pad_mode: PadMode,
    #[serde(default = "yes")]
    align_corners: bool,
    batch: bool,
    min_scale: f64,
    #[serde(default, serialize_with = "specs", deserialize_with = "built")]
    xtra_tfms: Vec<Arc<dyn BatchTransform>>,
}

/// Returns the value for exports of versions without this option.
fn yes() -> bool {
    true
}

fn specs<S: Serializer>(tfms: &[Arc<dyn BatchTransform>], to: S) -> Result<S::Ok, S::Error> {
    let code = |t: &Arc<dyn BatchTransform>| S::Error::custom(format!("{t:?} is code, not data"));
    let specs = tfms.iter().map(|t| t.spec().ok_or_else(|| code(t)));
    specs.collect::<Result<Vec<_>, _>>()?.serialize(to)
}

fn built<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Arc<dyn BatchTransform>>, D::Error> {
    Ok(Vec::<BatchSpec>::deserialize(from)?.iter().map(BatchSpec::build).collect())
}

/// Compares the `Debug` texts, since transforms of the user have no equality.
impl PartialEq for Augment {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// Returns the standard augmentations: flips, rotations, zooms, perspectives, brightness and contrast,
/// drawn for each image. Validation only changes the size. Corresponds to fastai's
/// [`aug_transforms`](https://docs.fast.ai/vision.augment.html#aug_transforms).
///
/// ```
/// use finetune::transform::aug_transforms;
///
/// let augment = aug_transforms().size(224).min_scale(0.75);
/// ```
#[must_use]
pub fn aug_transforms() -> Augment {
    Augment {
        mult: 1.0,
        do_flip: true,
        flip_vert: false,
        max_rotate: 10.0,
        min_zoom: 1.0,
        max_zoom: 1.1,
        max_lighting: 0.2,
        max_warp: 0.2,
        p_affine: 0.75,
        p_lighting: 0.75,
        size: None,
        mode: Mode::Bilinear,
        pad_mode: PadMode::Reflection,
        align_corners: true,
        batch: false,
        min_scale: 1.0,
        xtra_tfms: vec![],
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        })*
    };
}

impl Augment {
    setters! {
        /// Sets the factor of rotation, lighting and warp. Default: 1.
        mult: f64,
        /// If true, images are flipped. Default: true.
        do_flip: bool,
        /// If true, images are flipped and rotated in all eight ways. Requires `do_flip`. Default: false.
        flip_vert: bool,
        /// Sets the maximum rotation in degrees; 0 for none. Default: 10.
        max_rotate: f64,
        /// Sets the minimum zoom. Default: 1.
        min_zoom: f64,
        /// Sets the maximum zoom. Default: 1.1.
        max_zoom: f64,
        /// Sets the maximum change of brightness and contrast; 0 for none. Default: 0.2.
        max_lighting: f64,
        /// Sets the maximum perspective; 0 for none. Default: 0.2.
        max_warp: f64,
        /// Sets the probability of each rotation, zoom and warp. Default: 0.75.
        p_affine: f64,
        /// Sets the probability of each change of brightness and contrast. Default: 0.75.
        p_lighting: f64,
        /// Sets the interpolation between pixels. Default: bilinear.
        mode: Mode,
        /// Sets the values outside of the image. Default: the mirrored image.
        pad_mode: PadMode,
        /// If true, the corners of an image are the centers of its outer pixels. Default: true.
        align_corners: bool,
        /// If true, one draw is used for the whole batch. Default: false.
        batch: bool,
        /// Sets the minimum fraction of the area that a random crop keeps; 1 for no crop. Below 1, the
        /// crop does the resizing. Default: 1.
        min_scale: f64,
    }

    /// Sets the side of the square output in pixels. Default: the size of the input.
    #[must_use]
    pub fn size(self, side: u32) -> Self {
        self.size_hw(side, side)
    }

    /// Sets the height and width of the output in pixels. Default: the size of the input.
    #[must_use]
    pub fn size_hw(mut self, height: u32, width: u32) -> Self {
        self.size = Some((width, height));
        self
    }

    /// Adds a transform to the standard ones. May be called several times. Default: none.
    #[must_use]
    pub fn xtra_tfms(mut self, tfm: impl BatchTransform + 'static) -> Self {
        self.xtra_tfms.push(Arc::new(tfm));
        self
    }

    /// Returns the transforms of these options, in the order in which they run.
    #[must_use]
    pub fn transforms(&self) -> Vec<Arc<dyn BatchTransform>> {
        let mut tfms: Vec<Arc<dyn BatchTransform>> = vec![];
        let geometry = |p: f64| {
            let Self { mode, pad_mode, align_corners, .. } = *self;
            let mut geometry = Geometry::new();
            geometry.chance.p = p;
            geometry.chance.batch = self.batch;
            geometry.size = self.size.filter(|_| self.min_scale == 1.0);
            geometry.resampling = Resampling { mode, pad_mode, align_corners };
            geometry
        };
        match (self.do_flip, self.flip_vert) {
            (true, true) => tfms.push(Arc::new(Dihedral::of(geometry(0.5)))),
            (true, false) => tfms.push(Arc::new(Flip::of(geometry(0.5)))),
            (false, _) => {}
        }
        let (warp, rotate) = (self.max_warp * self.mult, self.max_rotate * self.mult);
        if warp != 0.0 {
            tfms.push(Arc::new(Warp::of(geometry(self.p_affine), warp)));
        }
        if rotate != 0.0 {
            tfms.push(Arc::new(Rotate::of(geometry(self.p_affine), rotate)));
        }
        let zoom = Zoom::of(geometry(self.p_affine), self.min_zoom, self.max_zoom);
        // An invalid range is kept, so that the check of the transforms finds it.
        if self.min_zoom < 1.0 || self.max_zoom > 1.0 || zoom.check().is_err() {
            tfms.push(Arc::new(zoom));
        }
        if tfms.is_empty() && self.min_scale == 1.0 && self.size.is_some() {
            // The image is not changed, but it is resized.
            tfms.push(Arc::new(Flip::of(geometry(0.0))));
        }
        // As in fastai, they are composed with the standard ones, before the crop.
        let moves = |tfm: &Arc<dyn BatchTransform>| {
            use BatchSpec::{Dihedral, Flip, Rotate, Warp, Zoom};
            matches!(tfm.spec(), Some(Flip(_) | Dihedral(_) | Rotate(_) | Zoom(_) | Warp(_)))
        };
        let (moving, others): (Vec<_>, Vec<_>) = self.xtra_tfms.iter().cloned().partition(moves);
        tfms.extend(moving);
        if self.min_scale != 1.0
            && let Some((width, height)) = self.size
        {
            let crop = RandomResizedCropGpu::hw(height, width);
            tfms.push(Arc::new(crop.min_scale(self.min_scale).ratio(1.0, 1.0)));
        }
        let lighting = self.max_lighting * self.mult;
        if lighting != 0.0 {
            let p = self.p_lighting;
            tfms.push(Arc::new(Brightness::new(lighting).p(p).batch(self.batch)));
            tfms.push(Arc::new(Contrast::new(lighting).p(p).batch(self.batch)));
        }
        tfms.extend(others);
        tfms.sort_by_key(|t| t.order());
        tfms
    }
}

impl BatchTransform for Augment {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        self.check()?;
        self.transforms().iter().try_for_each(|tfm| tfm.plan(plan, split, rng))
    }
    fn check(&self) -> Result<()> {
        if self.min_scale != 1.0 && self.size.is_none() {
            let why = "random crops need an output size: set `size` too";
            return Err(Error::config("min_scale", why));
        }
        if self.flip_vert && !self.do_flip {
            let why = "has no effect with `do_flip(false)`: remove one of them";
            return Err(Error::config("flip_vert", why));
        }
        self.transforms().iter().try_for_each(|tfm| tfm.check())
    }
    fn order(&self) -> i32 {
        30
    }
    fn parts(&self) -> Option<Vec<Arc<dyn BatchTransform>>> {
        Some(self.transforms())
    }
    fn spec(&self) -> Option<BatchSpec> {
        let data = self.xtra_tfms.iter().all(|tfm| tfm.spec().is_some());
        data.then(|| BatchSpec::Augment(self.clone()))
    }
}

//! Random color changes of batches. They apply to training only.

use super::{BatchSpec, BatchTransform, Color, Draw, DrawnValues, Plan, draw::Chance};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// Draws a factor between `1 - max` and its inverse. Each factor is as likely as its inverse.
fn factor(max: f64, draw: &mut dyn Draw) -> f64 {
    let most = (1.0 - max).ln();
    draw.uniform(most, -most).exp()
}

macro_rules! color {
    (
        $(#[$doc:meta])* $name:ident($max:ident), $(#[$given:meta])* neutral $neutral:expr,
        drawn $drawn:expr, $change:expr, $colors:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $max: f64,
            chance: Chance,
            draw: Option<DrawnValues>,
        }

        impl $name {
            #[doc = concat!("Draws changes up to `", stringify!($max), "`, at least 0 and below 1.")]
            #[must_use]
            pub fn new($max: f64) -> Self {
                Self { $max, chance: Chance::new(0.75), draw: None }
            }
            /// Sets the probability that an image is changed. Default: 0.75.
            #[must_use]
            pub fn p(mut self, p: f64) -> Self {
                self.chance.p = p;
                self
            }
            /// If true, one draw is used for the whole batch. Default: false.
            #[must_use]
            pub fn batch(mut self, yes: bool) -> Self {
                self.chance.batch = yes;
                self
            }
            $(#[$given])*
            #[must_use]
            pub fn draw(mut self, draw: impl Into<DrawnValues>) -> Self {
                self.draw = Some(draw.into());
                self
            }
        }

        impl BatchTransform for $name {
            fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
                self.check()?;
                if split == Split::Train {
                    if plan.channels() < $colors {
                        let why = "needs images with three channels";
                        return Err(Error::config(stringify!($name), why));
                    }
                    let drawn = |draw: &mut dyn Draw| $drawn(self.$max, draw);
                    let given = self.draw.as_ref();
                    let drawn = self.chance.values(plan.len(), $neutral, given, rng, drawn)?;
                    plan.color(drawn.into_iter().map($change));
                }
                Ok(())
            }
            fn check(&self) -> Result<()> {
                self.chance.check()?;
                let fits = (0.0..1.0).contains(&self.$max);
                let why = || format!("is {}; it must be at least 0 and below 1", self.$max);
                if fits { Ok(()) } else { Err(Error::config(stringify!($max), why())) }
            }
            fn order(&self) -> i32 {
                40
            }
            fn spec(&self) -> Option<BatchSpec> {
                Some(BatchSpec::$name(self.clone()))
            }
        }
    };
}

color!(
    /// Changes the brightness of images. Corresponds to fastai's
    /// [`Brightness`](https://docs.fast.ai/vision.augment.html#brightness).
    Brightness(max_lighting),
    /// Sets the changes instead of drawing them: from 0 (black) to 1 (white); 0.5 changes nothing.
    neutral 0.5,
    drawn |max: f64, draw: &mut dyn Draw| draw.uniform(0.5 * (1.0 - max), 0.5 * (1.0 + max)),
    Color::brightness,
    1
);
color!(
    /// Changes the contrast of images. Corresponds to fastai's
    /// [`Contrast`](https://docs.fast.ai/vision.augment.html#contrast).
    Contrast(max_lighting),
    /// Sets the factors instead of drawing them; 1 changes nothing.
    neutral 1.0,
    drawn factor,
    Color::contrast,
    1
);
color!(
    /// Changes the saturation of images. Corresponds to fastai's
    /// [`Saturation`](https://docs.fast.ai/vision.augment.html#saturation).
    Saturation(max_lighting),
    /// Sets the factors instead of drawing them: 0 is gray, 1 changes nothing.
    neutral 1.0,
    drawn factor,
    Color::saturation,
    3
);
color!(
    /// Changes the hue of images. Corresponds to fastai's
    /// [`Hue`](https://docs.fast.ai/vision.augment.html#hue).
    Hue(max_hue),
    /// Sets the rotations of the hue instead of drawing them, as fractions of a full turn: 0 and 1
    /// change nothing. Drawn values are around 1.
    neutral 0.0,
    drawn factor,
    Color::Hue,
    3
);

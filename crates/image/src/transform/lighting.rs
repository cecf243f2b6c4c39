//! Random colors of batches. All are for training; validation and prediction see what is there.

use super::{BatchSpec, BatchTransform, Color, Draw, DrawnValues, Plan, draw::Chance};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use serde::{Deserialize, Serialize};

/// From `1 - max` to one over it, each factor as likely as its inverse.
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
            #[doc = concat!("By up to `", stringify!($max), "`, from 0 to below 1.")]
            #[must_use]
            pub fn new($max: f64) -> Self {
                Self { $max, chance: Chance::new(0.75), draw: None }
            }
            /// The probability that an image is changed. Default: 0.75.
            #[must_use]
            pub fn p(mut self, p: f64) -> Self {
                self.chance.p = p;
                self
            }
            /// Whether one draw is for the whole batch. Default: false.
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
                        let why = "images of one channel have no colors";
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
                let why = || format!("{} is not between 0 and 1", self.$max);
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
    /// Makes images lighter or darker: fastai's
    /// [`Brightness`](https://docs.fast.ai/vision.augment.html#brightness).
    Brightness(max_lighting),
    /// The changes, from 0 for black to 1 for white; one half changes nothing. Default: drawn.
    neutral 0.5,
    drawn |max: f64, draw: &mut dyn Draw| draw.uniform(0.5 * (1.0 - max), 0.5 * (1.0 + max)),
    Color::brightness,
    1
);
color!(
    /// Makes differences in images larger or smaller: fastai's
    /// [`Contrast`](https://docs.fast.ai/vision.augment.html#contrast).
    Contrast(max_lighting),
    /// The factors. Default: drawn.
    neutral 1.0,
    drawn factor,
    Color::contrast,
    1
);
color!(
    /// Makes images more or less colorful: fastai's
    /// [`Saturation`](https://docs.fast.ai/vision.augment.html#saturation).
    Saturation(max_lighting),
    /// The factors: 0 for gray, 1 changes nothing. Default: drawn.
    neutral 1.0,
    drawn factor,
    Color::saturation,
    3
);
color!(
    /// Turns the colors of images around the color circle: fastai's
    /// [`Hue`](https://docs.fast.ai/vision.augment.html#hue).
    Hue(max_hue),
    /// The turns, as parts of the circle: 0 and 1 change nothing. Default: drawn, about 1.
    neutral 0.0,
    drawn factor,
    Color::Hue,
    3
);

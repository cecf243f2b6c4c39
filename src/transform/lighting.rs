//! Brightness and contrast, in logit space as fastai has them.

use super::{BatchTransform, Plan, affine::draws, affine::probability};
use crate::{
    error::{Error, Result},
    sample::Split,
    seed::Rng,
};
use rand::RngExt as _;

fn lit(plan: &mut Plan, drawn: Vec<f64>, change: impl Fn((f64, f64), f64) -> (f64, f64)) {
    for (image, v) in plan.images.iter_mut().zip(drawn) {
        image.lighting = Some(change(image.lighting.unwrap_or((0.0, 1.0)), v));
    }
}

fn maximum(max: f64, p: f64) -> Result<()> {
    probability("p", p)?;
    let fits = (0.0..1.0).contains(&max);
    let why = || format!("{max} is not between 0 and 1");
    if fits { Ok(()) } else { Err(Error::config("max_lighting", why())) }
}

macro_rules! lighting {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            max_lighting: f64,
            p: f64,
            batch: bool,
        }

        impl $name {
            /// By up to `max_lighting`, between 0 and 1.
            #[must_use]
            pub fn new(max_lighting: f64) -> Self {
                Self { max_lighting, p: 0.75, batch: false }
            }
            /// The probability that an image is changed. Default: 0.75.
            #[must_use]
            pub fn p(mut self, p: f64) -> Self {
                self.p = p;
                self
            }
            /// Whether one draw is for the whole batch. Default: false.
            #[must_use]
            pub fn batch(mut self, yes: bool) -> Self {
                self.batch = yes;
                self
            }
        }
    };
}

lighting!(
    /// Makes images lighter or darker.
    Brightness
);
lighting!(
    /// Makes differences in images larger or smaller.
    Contrast
);

impl BatchTransform for Brightness {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        maximum(self.max_lighting, self.p)?;
        if split == Split::Train {
            let draw =
                |rng: &mut Rng| 0.5 + 0.5 * self.max_lighting * (2.0 * rng.random::<f64>() - 1.0);
            let drawn = draws(plan.len(), self.p, 0.5, self.batch, rng, draw);
            lit(plan, drawn, |(add, times), v| (add + (v / (1.0 - v)).ln() / times, times));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        40
    }
}

impl BatchTransform for Contrast {
    fn plan(&self, plan: &mut Plan, split: Split, rng: &mut Rng) -> Result<()> {
        maximum(self.max_lighting, self.p)?;
        if split == Split::Train {
            let most = -(1.0 - self.max_lighting).ln();
            let draw = |rng: &mut Rng| ((2.0 * rng.random::<f64>() - 1.0) * most).exp();
            let drawn = draws(plan.len(), self.p, 1.0, self.batch, rng, draw);
            lit(plan, drawn, |(add, times), v| (add, times * v));
        }
        Ok(())
    }
    fn order(&self) -> i32 {
        40
    }
}

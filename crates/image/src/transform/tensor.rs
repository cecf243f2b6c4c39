//! Execution of plans with libtorch's operations, on any device, and other operations of transforms on
//! tensors.

use super::{Color, MaskPlan, Mode, Normalize, Plan, color::LUMA, plan::Phase, sampling::Sampling};
use crate::{
    error::{Error, Result},
    image::PadMode,
};
use std::{mem::discriminant, sync::Arc};
use tch::{Device, Kind, Tensor, kind::Element};

impl Plan {
    /// Adds a call of `step` with the whole batch, `[N, C, H, W]` on its device. It must keep the number
    /// of images, and their size if pixels are moved after it.
    pub fn step(&mut self, step: impl Fn(Tensor) -> Result<Tensor> + Send + Sync + 'static) {
        self.pass(Phase::Step).steps.push(Arc::new(step));
    }

    /// Executes the whole plan with libtorch's sampler, on the device of `x`: `[N, H, W, C]` bytes, or
    /// `[N, C, H, W]` floats between 0 and 1. The result is `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Config`] if a step of the user changed a size that is needed, and libtorch's errors.
    pub fn execute_tensor(&self, x: &Tensor) -> Result<Tensor> {
        let x = match x.f_kind()? {
            Kind::Uint8 => (x.f_to_kind(Kind::Float)? / 255.0).f_permute([0, 3, 1, 2])?,
            _ => x.shallow_clone(),
        };
        self.run(x)
    }

    /// Executes the steps after the first pass, and the passes after them, on a batch `[N, C, H, W]`.
    ///
    /// # Errors
    /// The errors of the steps, and those of [`execute_tensor`](Self::execute_tensor).
    pub fn tensor_steps(&self, x: Tensor) -> Result<Tensor> {
        let x = self.steps.iter().try_fold(x, |x, step| step(x))?;
        match &self.next {
            Some(next) => next.run(x),
            None => Ok(x),
        }
    }

    /// Returns the positions that the first pass reads, as `grid_sampler` takes them:
    /// `[N, height, width, 2]`, x first, from -1 to 1 within the window that is read. `None` if pixels
    /// are not moved.
    ///
    /// # Errors
    /// libtorch's errors.
    #[doc(hidden)]
    pub fn grid(&self, device: Device) -> Result<Option<Tensor>> {
        Sampling::new(self).map(|sampling| grid(&sampling, self.len(), device)).transpose()
    }

    /// Returns the width and height to which the first pass shrinks its input by area means before
    /// sampling. `None` if it does not shrink.
    #[doc(hidden)]
    #[must_use]
    pub fn shrunk_size(&self) -> Option<(u32, u32)> {
        Sampling::new(self).and_then(|sampling| sampling.shrunk)
    }

    fn run(&self, x: Tensor) -> Result<Tensor> {
        let (n, _, h, w) = x.size4()?;
        let moves = self.resampling.is_some() || self.crop.is_some();
        let (width, height) = (i64::from(self.input.0), i64::from(self.input.1));
        if n != self.len() as i64 || (moves && (w, h) != (width, height)) {
            let why = format!(
                "a batch of {n} images of {w}x{h} instead of {} of {width}x{height}: steps of your \
                 own must keep both where pixels are moved after them",
                self.len()
            );
            return Err(Error::config("batch_tfms", why));
        }
        let x = self.sampled(x)?;
        let x = self.colored(x)?;
        let x = match &self.normalize {
            Some((mean, std)) => {
                let device = x.device();
                let of = |v: &[f32]| on_device(v, &[1, -1, 1, 1], device);
                x.f_sub(&of(mean)?)?.f_div(&of(std)?)?
            }
            None => x,
        };
        self.tensor_steps(self.erased(x)?)
    }

    fn sampled(&self, x: Tensor) -> Result<Tensor> {
        let Some(sampling) = Sampling::new(self) else { return Ok(x) };
        let window = sampling.window;
        let mut x = x.f_narrow(2, i64::from(window.top), i64::from(window.height))?.f_narrow(
            3,
            i64::from(window.left),
            i64::from(window.width),
        )?;
        if let Some((w, h)) = sampling.shrunk {
            x = x.f_adaptive_avg_pool2d([i64::from(h), i64::from(w)])?;
        }
        let mode = match sampling.resampling.mode {
            Mode::Bilinear => 0,
            Mode::Nearest => 1,
        };
        let pad = match sampling.resampling.pad_mode {
            PadMode::Zeros => 0,
            PadMode::Border => 1,
            PadMode::Reflection => 2,
        };
        let grid = grid(&sampling, self.len(), x.device())?;
        Ok(x.f_grid_sampler(&grid, mode, pad, sampling.resampling.align_corners)?)
    }

    /// Changes colors in the order of each image. At one position of that order, images may have changes
    /// of several kinds; each kind is applied to all of its images at once.
    fn colored(&self, mut x: Tensor) -> Result<Tensor> {
        let most = self.images.iter().map(|i| i.colors.len()).max().unwrap_or(0);
        for k in 0..most {
            let mut kinds: Vec<(Vec<i64>, Vec<Color>)> = vec![];
            for (i, image) in self.images.iter().enumerate() {
                let Some(&color) = image.colors.get(k) else { continue };
                let same = |(_, of): &&mut (Vec<i64>, Vec<Color>)| {
                    of.first().is_some_and(|c| discriminant(c) == discriminant(&color))
                };
                match kinds.iter_mut().find(same) {
                    Some((rows, of)) => {
                        rows.push(i as i64);
                        of.push(color);
                    }
                    None => kinds.push((vec![i as i64], vec![color])),
                }
            }
            for (rows, colors) in kinds {
                if rows.len() == self.images.len() {
                    x = changed(&x, &colors)?;
                } else if colors.iter().any(|color| !color.is_neutral()) {
                    let rows = on_device(&rows, &[-1], x.device())?;
                    let part = changed(&x.f_index_select(0, &rows)?, &colors)?;
                    x = x.f_index_copy(0, &rows, &part)?;
                }
            }
        }
        Ok(x)
    }

    fn erased(&self, x: Tensor) -> Result<Tensor> {
        if self.erased.is_empty() {
            return Ok(x);
        }
        let (_, c, h, w) = x.size4()?;
        // The caller may still use the input.
        let x = x.copy();
        for erased in &self.erased {
            let (rows, columns) = erased.within((w as u32, h as u32));
            let (height, width) = (rows.len() as i64, columns.len() as i64);
            let each = (c * height * width) as usize;
            let mut noise = Vec::with_capacity(each * self.len());
            for i in 0..self.len() {
                noise.extend_from_slice(&erased.noise(self.place(i), each)?);
            }
            let noise = on_device(&noise, &[-1, c, height, width], x.device())?;
            x.f_narrow(2, rows.start as i64, height)?
                .f_narrow(3, columns.start as i64, width)?
                .f_copy_(&noise)?;
        }
        Ok(x)
    }
}

impl MaskPlan {
    /// Moves all masks, `[N, H, W]` bytes, on their device. Returns `i64` `[N, H, W]`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the number or size of the masks differs from that of the images, and
    /// libtorch's errors.
    pub fn execute_tensor(&self, masks: &Tensor) -> Result<Tensor> {
        let moved = |masks: Tensor, plan: &Plan| -> Result<Tensor> {
            let bytes = masks.f_to_kind(Kind::Uint8)?.f_unsqueeze(-1)?;
            Ok(plan.execute_tensor(&bytes)?.f_squeeze_dim(1)?.f_round()?)
        };
        let moved = self.passes.iter().try_fold(masks.shallow_clone(), moved)?;
        Ok(moved.f_to_kind(Kind::Int64)?)
    }
}

impl Normalize {
    /// Creates a normalization from the statistics of a batch `[N, C, H, W]` with values between 0 and 1.
    /// The deviation is that of a sample (divisor n - 1), plus a small number so that it is never 0, as in
    /// fastai.
    ///
    /// # Errors
    /// [`Error::Torch`] if `x` has other dimensions.
    ///
    /// ```no_run
    /// # fn f(mut dls: finetune::data::DataLoaders) -> finetune::Result<()> {
    /// use finetune::transform::Normalize;
    ///
    /// let normalize = Normalize::fit(&dls.train().one_batch()?.x)?;
    /// dls.add_batch_tfm(normalize)?;
    /// # Ok(()) }
    /// ```
    pub fn fit(x: &Tensor) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let x = x.f_to_kind(Kind::Float)?;
        let dims: &[i64] = &[0, 2, 3];
        let mean = x.f_mean_dim(dims, false, Kind::Float)?;
        let std = x.f_std_dim(dims, true, false)? + 1e-7;
        Self::new(Vec::try_from(mean)?, Vec::try_from(std)?)
    }

    /// Reverts the normalization of values `[N, C, H, W]`.
    ///
    /// # Errors
    /// libtorch's errors, for example if the channels do not match.
    pub fn undo(&self, x: &Tensor) -> Result<Tensor> {
        // An undefined tensor has no device.
        x.f_kind()?;
        let of = |v: &[f32]| on_device(v, &[1, -1, 1, 1], x.device());
        Ok(x.f_mul(&of(self.std())?)?.f_add(&of(self.mean())?)?)
    }
}

/// Copies numbers to `device`. On a GPU, the program does not wait for the work before the copy: the
/// numbers have been read when the call returns, as their memory is not pinned.
fn on_device<T: Element>(values: &[T], shape: &[i64], device: Device) -> Result<Tensor> {
    let x = Tensor::f_from_slice(values)?.f_view(shape)?;
    Ok(x.f_to_device_(device, x.kind(), matches!(device, Device::Cuda(_)), false)?)
}

fn grid(sampling: &Sampling<'_>, n: usize, device: Device) -> Result<Tensor> {
    let float = (Kind::Float, device);
    let (w, h) = sampling.size;
    let maps: Vec<f32> =
        (0..n).flat_map(|i| sampling.map(i).0.into_iter().flatten().map(|v| v as f32)).collect();
    let maps = on_device(&maps, &[-1, 3, 3], device)?;
    let xs = Tensor::arange(i64::from(w), float).view([1, 1, -1]);
    let ys = Tensor::arange(i64::from(h), float).view([1, -1, 1]);
    let row = |r: i64| {
        let of = |c: i64| maps.select(1, r).select(1, c).view([-1, 1, 1]);
        of(0) * &xs + of(1) * &ys + of(2)
    };
    let depth = row(2);
    Ok(Tensor::f_stack(&[row(0) / &depth, row(1) / &depth], -1)?)
}

/// Applies one change per image, all of one kind, to images `[N, C, H, W]`.
fn changed(x: &Tensor, colors: &[Color]) -> Result<Tensor> {
    let device = x.device();
    let channels = x.size4()?.1;
    // One number per image, shaped to broadcast over the batch.
    let each = |of: fn(Color) -> f64| -> Result<Tensor> {
        let values: Vec<f32> = colors.iter().map(|c| of(*c) as f32).collect();
        on_device(&values, &[-1, 1, 1, 1], device)
    };
    let luma = || -> Result<Tensor> {
        let weights = LUMA.map(|w| w as f32);
        on_device(&weights, &[1, 3, 1, 1], device)
    };
    let gray = |of: &Tensor| -> Result<Tensor> {
        let dims: &[i64] = &[1];
        Ok(of.f_mul(&luma()?)?.f_sum_dim_intlist(dims, true, None)?)
    };
    let level =
        |x: &Tensor| -> Result<Tensor> { Ok((x.f_clamp(0.0, 1.0)? * 255.0 + 0.5).f_floor()?) };
    let factor = |c| match c {
        Color::FromMean(factor) | Color::Sharpen(factor) => factor,
        _ => 1.0,
    };
    let Some(kind) = colors.first() else { return Ok(x.shallow_clone()) };
    Ok(match kind {
        Color::Hue(_) if channels == 1 => x.shallow_clone(),
        Color::Hue(_) if channels != 3 => {
            let why = format!("a hue needs 3 channels, but the images have {channels}");
            return Err(Error::config("batch_tfms", why));
        }
        Color::Hue(_) => turned(x, &each(|c| if let Color::Hue(turn) = c { turn } else { 0.0 })?),
        Color::Logit { .. } => {
            let scale = each(|c| if let Color::Logit { scale, .. } = c { scale } else { 1.0 })?;
            let luma = each(|c| if let Color::Logit { luma, .. } = c { luma } else { 0.0 })?;
            let add = each(|c| if let Color::Logit { add, .. } = c { add } else { 0.0 })?;
            let y = x.f_logit(1e-7)?;
            let has_luma = |c: &Color| matches!(c, Color::Logit { luma, .. } if *luma != 0.0);
            let add = match colors.iter().any(has_luma) {
                true => gray(&y)? * luma + add,
                false => add,
            };
            (y * scale + add).f_sigmoid()?
        }
        Color::Linear { .. } => {
            let scale = each(|c| if let Color::Linear { scale, .. } = c { scale } else { 1.0 })?;
            let luma = each(|c| if let Color::Linear { luma, .. } = c { luma } else { 0.0 })?;
            let gray = if channels == 1 { x.shallow_clone() } else { gray(x)? };
            (x * scale + gray * luma).f_clamp(0.0, 1.0)?
        }
        Color::Posterize(_) => {
            let step = each(|c| match c {
                Color::Posterize(bits) => f64::from(1_u16 << (8 - bits.min(8))),
                _ => 1.0,
            })?;
            (level(x)? / &step).f_floor()? * step * (1.0 / 255.0)
        }
        Color::Solarize(_) => {
            let from = each(|c| if let Color::Solarize(level) = c { level } else { 256.0 })?;
            x.f_neg()?.f_add_scalar(1.0)?.f_where_self(&level(x)?.f_ge_tensor(&from)?, x)?
        }
        Color::FromMean(_) => {
            let factor = each(factor)?;
            let gray = if channels == 1 { x.shallow_clone() } else { gray(x)? };
            let mean = gray.f_mean_dim([1_i64, 2, 3].as_slice(), true, Kind::Float)?;
            let rest: Tensor = 1.0 - &factor;
            (x * factor + mean * rest).f_clamp(0.0, 1.0)?
        }
        Color::Sharpen(_) => sharpened(x, &each(factor)?)?,
        Color::AutoContrast => {
            let dims: &[i64] = &[2, 3];
            let (low, high) = (x.f_amin(dims, true)?, x.f_amax(dims, true)?);
            let range = &high - &low;
            let varies = range.f_gt(0.0)?;
            ((x - low) / range).f_clamp(0.0, 1.0)?.f_where_self(&varies, x)?
        }
        Color::Equalize => equalized(x, &level(x)?)?,
    })
}

/// Multiplies the differences from the mean of each pixel and its neighbors by `factor`.
fn sharpened(x: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let (_, c, h, w) = x.size4()?;
    if h <= 2 || w <= 2 {
        return Ok(x.shallow_clone());
    }
    let kernel = [1.0_f32, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0].map(|v| v / 13.0);
    let kernel = on_device(&kernel, &[1, 1, 3, 3], x.device())?;
    let kernel = kernel.f_expand([c, 1, 3, 3], false)?;
    let none: Option<Tensor> = None;
    let smooth = x.f_conv2d(&kernel, none, [1, 1], [0, 0], [1, 1], c)?;
    let inner = |t: &Tensor| t.f_narrow(2, 1, h - 2)?.f_narrow(3, 1, w - 2);
    let rest: Tensor = 1.0 - factor;
    let sharp = (inner(x)? * factor + smooth * rest).f_clamp(0.0, 1.0)?;
    let out = x.f_detach_copy()?;
    inner(&out)?.f_copy_(&sharp)?;
    Ok(out)
}

/// Replaces the levels of images, 0 to 255, by those of flat histograms.
fn equalized(x: &Tensor, levels: &Tensor) -> Result<Tensor> {
    const LEVELS: i64 = 256;
    let (n, c, h, w) = x.size4()?;
    let rows = n * c;
    let whole = (Kind::Int64, x.device());
    let levels = levels.f_to_kind(Kind::Int64)?.f_contiguous()?.f_view([rows, h * w])?;
    let ones = levels.f_ones_like()?;
    let counts = Tensor::f_zeros([rows, LEVELS], whole)?.f_scatter_add(1, &levels, &ones)?;
    // The number of pixels of the highest level that occurs.
    let number = Tensor::f_arange(LEVELS, whole)?.f_view([1, LEVELS])?;
    let highest = (counts.f_gt(0)?.f_to_kind(Kind::Int64)? * number).f_argmax(1, true)?;
    let last = counts.f_gather(1, &highest, false)?;
    let dims: &[i64] = &[1];
    let sum = counts.f_sum_dim_intlist(dims, true, Kind::Int64)?;
    let step = (sum - last).f_divide_scalar_mode(255, "floor")?;
    let some = step.f_clamp_min(1)?;
    let below = counts.f_cumsum(1, Kind::Int64)? - &counts;
    let half = some.f_divide_scalar_mode(2, "floor")?;
    let table = (below + half).f_divide_tensor_mode(&some, "floor")?.f_clamp(0, 255)?;
    // The lowest level becomes black, regardless of rounding.
    let _ = table.f_narrow(1, 0, 1)?.f_zero_()?;
    let values = table.f_gather(1, &levels, false)?.f_to_kind(Kind::Float)? * (1.0 / 255.0);
    let values = values.f_view([n, c, h, w])?;
    Ok(values.f_where_self(&step.f_gt(0)?.f_view([n, c, 1, 1])?, x)?)
}

/// Rotates the hue by fractions of a full turn, one per image.
fn turned(x: &Tensor, turn: &Tensor) -> Tensor {
    let (max, min) = (x.amax([1], true), x.amin([1], true));
    let range = &max - &min;
    let gray = range.eq(0.0);
    let one = max.ones_like();
    let saturation = &range / one.where_self(&gray, &max);
    let c = (&max - x) / one.where_self(&gray, &range);
    let (rc, gc, bc) = (c.narrow(1, 0, 1), c.narrow(1, 1, 1), c.narrow(1, 2, 1));
    let is_max = |k: i64| x.narrow(1, k, 1).eq_tensor(&max);
    let red: Tensor = &bc - &gc;
    let green: Tensor = 2.0 + (&rc - &bc);
    let blue: Tensor = 4.0 + (&gc - &rc);
    let sixth = red.where_self(&is_max(0), &green.where_self(&is_max(1), &blue));
    let hue = (sixth / 6.0 + 1.0).fmod(1.0) + turn;
    let hue = (&hue - hue.floor()) * 6.0;
    // For each channel: the position on the color circle relative to its full level.
    let channel = |shift: f64| {
        let k = (&hue + shift).fmod(6.0);
        let away = k.minimum(&(4.0 - &k)).clamp(0.0, 1.0);
        &max - &max * &saturation * away
    };
    Tensor::cat(&[channel(5.0), channel(3.0), channel(1.0)], 1)
}

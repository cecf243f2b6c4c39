//! Execution of a pass on the CPU, from bytes to normalized floats.

use super::{
    Color, Plan, area,
    kernel::{self, Levels, Reading},
    pixels::{Pixels, Texel},
    sampling::Sampling,
    whole,
};
use crate::{
    error::{Error, Result},
    memory, sys,
};
use rayon::prelude::*;

/// One image of a pass.
struct One<'a, T> {
    plan: &'a Plan,
    i: usize,
    sampling: Option<&'a Sampling<'a>>,
    from: &'a [T],
    to: &'a mut [f32],
}

impl<T: Texel> sys::Work for One<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { plan, i, sampling, from, to } = self;
        match plan.channels {
            3 => plan.image::<T, 3>(i, sampling, from, to),
            _ => plan.image::<T, 1>(i, sampling, from, to),
        }
    }
}

impl Plan {
    /// Executes the first pass for `pixels`, `[N, H, W, C]` bytes. Returns normalized floats
    /// `[N, H, W, C]`. Each pixel is read and written once. If `parallel` is true, the threads of the
    /// current pool share the images; the result is the same.
    ///
    /// The steps after the first pass are executed by [`tensor_steps`](Self::tensor_steps).
    ///
    /// # Errors
    /// [`Error::Config`] if the number of bytes does not match the images of the plan, an image has more
    /// than `i32::MAX` values, or there is not enough memory.
    pub fn execute(&self, pixels: &[u8], parallel: bool) -> Result<Vec<f32>> {
        self.execute_any(pixels, parallel)
    }

    /// Executes the first pass as [`execute`](Self::execute) does, for floats between 0 and 1,
    /// `[N, H, W, C]`.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_floats(&self, pixels: &[f32], parallel: bool) -> Result<Vec<f32>> {
        self.execute_any(pixels, parallel)
    }

    /// Executes the first pass for image `i` alone: reads `pixels`, `[H, W, C]`, and writes to `out`.
    ///
    /// # Errors
    /// [`Error::Config`] if `i` is not below the number of images, the length of a slice is wrong, or an
    /// image has more than `i32::MAX` values.
    pub fn execute_image(&self, i: usize, pixels: &[u8], out: &mut [f32]) -> Result<()> {
        let (from, to) = (self.volume(self.input)?, self.volume(self.output_size())?);
        if i >= self.len() || pixels.len() != from || out.len() != to {
            let (bytes, floats) = (pixels.len(), out.len());
            let why = format!(
                "image {i} of {}, {bytes} bytes instead of {from}, {floats} floats instead of {to}",
                self.len()
            );
            return Err(Error::config("Plan::execute_image", why));
        }
        self.one(i, Sampling::new(self).as_ref(), pixels, out)
    }

    /// Returns the number of values of an image of this size.
    fn volume(&self, (width, height): (u32, u32)) -> Result<usize> {
        let channels = self.channels;
        let volume = u128::from(width) * u128::from(height) * u128::from(channels);
        // Positions in an image are computed as `i32`.
        let volume = i32::try_from(volume).ok().filter(|n| *n > 0 && matches!(channels, 1 | 3));
        volume.map(|n| n as usize).ok_or_else(|| {
            let why = format!(
                "{width}x{height} pixels with {channels} channels; an image has 1 or 3 channels and from 1 to \
                 {} values",
                i32::MAX
            );
            Error::config("Plan::execute", why)
        })
    }

    fn one<T: Texel>(
        &self,
        i: usize,
        sampling: Option<&Sampling<'_>>,
        from: &[T],
        to: &mut [f32],
    ) -> Result<()> {
        sys::vectorized(One { plan: self, i, sampling, from, to: &mut *to });
        self.erase_in(i, to)
    }

    fn execute_any<T: Texel>(&self, pixels: &[T], parallel: bool) -> Result<Vec<f32>> {
        let each = self.volume(self.input)?;
        if Some(pixels.len()) != each.checked_mul(self.len()) {
            let why = format!("{} values for {} images of {each} values", pixels.len(), self.len());
            return Err(Error::config("Plan::execute", why));
        }
        let out_each = self.volume(self.output_size())?;
        let values = out_each.checked_mul(self.len()).filter(|n| memory::fits::<f32>(*n));
        let values = values.ok_or_else(|| {
            let why = format!("not enough memory for {} images of {out_each} values", self.len());
            Error::config("Plan::execute", why)
        })?;
        let mut out = vec![0.0_f32; values];
        if out.is_empty() {
            return Ok(out);
        }
        let sampling = Sampling::new(self);
        let one =
            |(i, (to, from)): (usize, (&mut [f32], &[T]))| self.one(i, sampling.as_ref(), from, to);
        if parallel {
            out.par_chunks_mut(out_each)
                .zip(pixels.par_chunks(each))
                .enumerate()
                .try_for_each(one)?;
        } else {
            out.chunks_mut(out_each).zip(pixels.chunks(each)).enumerate().try_for_each(one)?;
        }
        Ok(out)
    }

    #[inline(always)]
    fn image<T: Texel, const C: usize>(
        &self,
        i: usize,
        sampling: Option<&Sampling<'_>>,
        pixels: &[T],
        out: &mut [f32],
    ) {
        let (ow, oh) = self.output_size();
        let size = (ow as usize, oh as usize);
        let (colors, levels) = (&self.images[i].colors, self.levels());
        // The first color change that needs the whole image, and those after it, run once the image is
        // complete.
        let whole = colors.iter().position(|color| color.needs_image());
        let (colors, rest) = colors.split_at(whole.unwrap_or(colors.len()));
        if rest.is_empty() {
            return self.read::<T, C>(i, sampling, pixels, (colors, &levels), out);
        }
        self.read::<T, C>(i, sampling, pixels, (colors, &Levels::SAME), out);
        whole::change::<C>(rest, size, &levels, out);
    }

    /// Reads image `i`, and applies changes of single pixels.
    #[inline(always)]
    fn read<T: Texel, const C: usize>(
        &self,
        i: usize,
        sampling: Option<&Sampling<'_>>,
        pixels: &[T],
        (colors, levels): (&[Color], &Levels),
        out: &mut [f32],
    ) {
        let (ow, oh) = self.output_size();
        let size = (ow as usize, oh as usize);
        let stride = self.input.0 as usize * C;
        let Some(sampling) = sampling else {
            let from = Pixels { pixels, stride, width: size.0, height: size.1 };
            return kernel::image::<T, C>(&from, None, size, colors, levels, out);
        };
        let window = &sampling.window;
        let from = Pixels {
            pixels: &pixels[window.top as usize * stride + window.left as usize * C..],
            stride,
            width: window.width as usize,
            height: window.height as usize,
        };
        let reading = Some(Reading { map: sampling.to_source(i), resampling: sampling.resampling });
        match sampling.shrunk {
            None => kernel::image::<T, C>(&from, reading, size, colors, levels, out),
            Some((w, h)) => {
                let (width, height) = (w as usize, h as usize);
                let pixels = area::shrunk::<T, C>(&from, (width, height));
                let from = Pixels { pixels: &pixels[..], stride: width * C, width, height };
                kernel::image::<f32, C>(&from, reading, size, colors, levels, out);
            }
        }
    }

    fn levels(&self) -> Levels {
        let mut levels = Levels::SAME;
        if let Some((mean, std)) = &self.normalize {
            for (c, (mean, std)) in mean.iter().zip(std).enumerate().take(3) {
                (levels.scale[c], levels.shift[c]) = (1.0 / std, -mean / std);
            }
        }
        levels
    }

    /// Erases rectangles of image `i`, `[height, width, channels]`.
    fn erase_in(&self, i: usize, out: &mut [f32]) -> Result<()> {
        let (size, channels) = (self.output_size(), usize::from(self.channels));
        for erased in &self.erased {
            let (rows, columns) = erased.within(size);
            let noise = erased.noise(self.place(i), channels * rows.len() * columns.len())?;
            let mut noise = noise.iter();
            for c in 0..channels {
                for y in rows.clone() {
                    for (x, &v) in columns.clone().zip(&mut noise) {
                        out[(y * size.0 as usize + x) * channels + c] = v;
                    }
                }
            }
        }
        Ok(())
    }
}

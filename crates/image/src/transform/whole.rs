//! Color changes that depend on other pixels of the image, on the CPU.

use super::{
    Color,
    color::LUMA,
    kernel::{self, Levels},
    pixels::Pixels,
    tone::{level, within},
};

/// The number of 8-bit levels.
const LEVELS: usize = 256;

/// Applies `colors` in order to an image of (width, height), `[height, width, channels]` values between
/// 0 and 1, and then `levels`.
pub(super) fn change<const C: usize>(
    colors: &[Color],
    size: (usize, usize),
    levels: &Levels,
    image: &mut [f32],
) {
    for &color in colors {
        if color.is_neutral() {
            continue;
        }
        match color {
            Color::FromMean(factor) => from_mean::<C>(image, factor as f32),
            Color::Sharpen(factor) => sharpen::<C>(image, size, factor as f32),
            Color::AutoContrast => (0..C).for_each(|c| stretch(channel_mut::<C>(image, c))),
            Color::Equalize => (0..C).for_each(|c| equalize::<C>(image, c)),
            each_pixel => {
                let before = image.to_vec();
                let (width, height) = size;
                let from = Pixels { pixels: &before[..], stride: width * C, width, height };
                kernel::image::<f32, C>(&from, None, size, &[each_pixel], &Levels::SAME, image);
            }
        }
    }
    for pixel in image.chunks_exact_mut(C) {
        for (c, v) in pixel.iter_mut().enumerate() {
            *v = *v * levels.scale[c] + levels.shift[c];
        }
    }
}

fn channel_mut<const C: usize>(image: &mut [f32], c: usize) -> impl Iterator<Item = &mut f32> {
    image.iter_mut().skip(c).step_by(C)
}

/// Changes the contrast around the mean gray value.
fn from_mean<const C: usize>(image: &mut [f32], factor: f32) {
    let gray = |pixel: &[f32]| match pixel {
        [r, g, b] => f64::from(*r) * LUMA[0] + f64::from(*g) * LUMA[1] + f64::from(*b) * LUMA[2],
        one => one.iter().map(|v| f64::from(*v)).sum(),
    };
    let pixels = (image.len() / C).max(1) as f64;
    let mean = (image.chunks_exact(C).map(gray).sum::<f64>() / pixels) as f32;
    image.iter_mut().for_each(|v| *v = within(*v * factor + mean * (1.0 - factor)));
}

/// Multiplies the differences from the mean of a pixel and its eight neighbors, in which the pixel
/// counts five times.
fn sharpen<const C: usize>(image: &mut [f32], (width, height): (usize, usize), factor: f32) {
    if width <= 2 || height <= 2 {
        return;
    }
    let before = image.to_vec();
    let row = width * C;
    for y in 1..height - 1 {
        for at in y * row + C..(y + 1) * row - C {
            let line = |at: usize| before[at - C] + before[at] + before[at + C];
            let sum = line(at - row) + line(at) + line(at + row) + 4.0 * before[at];
            let smooth = sum * (1.0 / 13.0);
            image[at] = within(before[at] * factor + smooth * (1.0 - factor));
        }
    }
}

/// Stretches a channel so that its minimum is 0 and its maximum is 1.
fn stretch<'a>(channel: impl Iterator<Item = &'a mut f32>) {
    let all: Vec<&mut f32> = channel.collect();
    let low = all.iter().fold(f32::INFINITY, |m, v| m.min(**v));
    let high = all.iter().fold(f32::NEG_INFINITY, |m, v| m.max(**v));
    if high > low {
        let scale = 1.0 / (high - low);
        all.into_iter().for_each(|v| *v = within((*v - low) * scale));
    }
}

/// Replaces the levels of a channel by those of a flat histogram, as Pillow and torchvision do.
fn equalize<const C: usize>(image: &mut [f32], c: usize) {
    let mut counts = [0_u64; LEVELS];
    for v in channel_mut::<C>(image, c) {
        counts[level(*v) as usize] += 1;
    }
    let Some(table) = flat(&counts) else { return };
    for v in channel_mut::<C>(image, c) {
        *v = table[level(*v) as usize];
    }
}

/// Returns the value of each level; `None` if the histogram is too narrow to be flattened.
fn flat(counts: &[u64; LEVELS]) -> Option<[f32; LEVELS]> {
    let last = counts.iter().rev().find(|n| **n > 0)?;
    let step = (counts.iter().sum::<u64>() - last) / 255;
    if step == 0 {
        return None;
    }
    let (mut table, mut below) = ([0.0; LEVELS], step / 2);
    for (value, count) in table.iter_mut().zip(counts) {
        *value = (below / step).min(255) as f32 * (1.0 / 255.0);
        below += count;
    }
    // The lowest level becomes black, regardless of rounding.
    table[0] = 0.0;
    Some(table)
}

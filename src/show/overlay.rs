//! Draws masks, points and boxes into images.

use super::font::{PALETTE, Rgb};
use crate::{
    error::Result,
    image::{Decode, Image, PadMode},
    sample::{Target, Task},
};

/// Returns the color of a code or class: first those of Okabe and Ito, then hues evenly around the circle.
pub(super) fn color(code: usize) -> Rgb {
    if let Some(color) = PALETTE.get(code) {
        return *color;
    }
    // By the golden ratio, consecutive hues are far apart.
    let hue = (code as f64 * 0.618_034).fract() * 6.0;
    let part = |shift: f64| {
        let k = (hue + shift) % 6.0;
        let away = k.min(4.0 - k).clamp(0.0, 1.0);
        (225.0 - 180.0 * away) as u8
    };
    [part(5.0), part(3.0), part(1.0)]
}

/// Returns the names and colors of a task's targets; empty if targets are not drawn in colors.
pub(super) fn legend(task: &Task) -> Vec<(String, Rgb)> {
    match task {
        Task::Mask { .. } | Task::Boxes { .. } => {
            let names = task.vocab().iter().enumerate();
            let shown = names.filter(|(_, name)| *name != crate::data::NA);
            shown.map(|(i, name)| (name.clone(), color(i))).collect()
        }
        _ => vec![],
    }
}

/// The opacity of a mask.
const MASK: f32 = 0.55;

/// A distance in pixels that is beyond every image, and small enough for sums.
const FAR: i64 = 1 << 40;

/// Returns the pixel of a coordinate, which a model may have predicted anywhere.
fn pixel(coordinate: f32) -> i64 {
    (coordinate as i64).clamp(-FAR, FAR)
}

struct Canvas {
    width: i64,
    height: i64,
    pixels: Vec<u8>,
}

impl Canvas {
    fn set(&mut self, x: i64, y: i64, color: Rgb) {
        if (0..self.width).contains(&x) && (0..self.height).contains(&y) {
            let at = ((y * self.width + x) * 3) as usize;
            self.pixels[at..at + 3].copy_from_slice(&color);
        }
    }

    /// Draws a disc with a white rim, so that it is visible on any background.
    fn disc(&mut self, (x, y): (f32, f32), radius: i64, color: Rgb) {
        let (cx, cy) = (pixel(x.floor()), pixel(y.floor()));
        let outer = radius + 1;
        for dy in -outer..=outer {
            for dx in -outer..=outer {
                let far = dx * dx + dy * dy;
                if far <= radius * radius {
                    self.set(cx + dx, cy + dy, color);
                } else if far <= outer * outer {
                    self.set(cx + dx, cy + dy, [255; 3]);
                }
            }
        }
    }

    fn frame(&mut self, [left, top, right, bottom]: [f32; 4], thick: i64, color: Rgb) {
        let (left, top) = (pixel(left.floor()), pixel(top.floor()));
        let (right, bottom) = (pixel(right.ceil()) - 1, pixel(bottom.ceil()) - 1);
        for t in 0..thick {
            for x in left.max(0)..=right.min(self.width - 1) {
                self.set(x, top + t, color);
                self.set(x, bottom - t, color);
            }
            for y in top.max(0)..=bottom.min(self.height - 1) {
                self.set(left + t, y, color);
                self.set(right - t, y, color);
            }
        }
    }
}

/// Draws a target into an image; returns the image unchanged if the target is not drawn.
pub(super) fn drawn(picture: &Image, target: &Target, task: &Task) -> Result<Image> {
    if !matches!(target, Target::Mask(_) | Target::Points(_) | Target::Boxes(_)) {
        return Ok(picture.clone());
    }
    let picture = Decode::new().convert(picture)?;
    let (width, height) = (picture.width(), picture.height());
    let side = i64::from(width.min(height));
    let mut canvas =
        Canvas { width: width.into(), height: height.into(), pixels: picture.into_pixels() };
    match target {
        Target::Mask(mask) if (mask.width(), mask.height()) == (width, height) => {
            let ignored = match task {
                Task::Mask { ignored, .. } => *ignored,
                _ => None,
            };
            for (pixel, &code) in canvas.pixels.chunks_exact_mut(3).zip(mask.pixels()) {
                if ignored == Some(code) {
                    continue;
                }
                for (v, c) in pixel.iter_mut().zip(color(code.into())) {
                    *v = (f32::from(*v) * (1.0 - MASK) + f32::from(c) * MASK).round() as u8;
                }
            }
        }
        Target::Points(points) => {
            for (i, point) in points.iter().enumerate().filter(|(_, p)| p.visible) {
                canvas.disc((point.x, point.y), (side / 60).max(1), color(i));
            }
        }
        Target::Boxes(boxes) => {
            for b in boxes {
                canvas.frame(b.corners(), (side / 150).max(1), color(b.class));
            }
        }
        _ => {}
    }
    Image::new(width, height, 3, canvas.pixels)
}

/// Joins two images of equal height side by side, with a white gap.
pub(super) fn beside(left: &Image, right: &Image) -> Result<Image> {
    let (left, right) = (Decode::new().convert(left)?, Decode::new().convert(right)?);
    let gap = (left.width() / 40).max(2);
    let right = right.crop_pad(0, 0, right.width(), left.height(), PadMode::Zeros)?;
    let width = left.width() + gap + right.width();
    let mut pixels = Vec::with_capacity(width as usize * left.height() as usize * 3);
    let row = |image: &Image, y: usize| {
        let n = image.width() as usize * 3;
        image.pixels()[y * n..(y + 1) * n].to_vec()
    };
    for y in 0..left.height() as usize {
        pixels.extend(row(&left, y));
        pixels.resize(pixels.len() + gap as usize * 3, 255);
        pixels.extend(row(&right, y));
    }
    Image::new(width, left.height(), 3, pixels)
}

//! Bicubic resizing in Pillow's own fixed-point arithmetic. A cubic overshoots, and what is cut off
//! between the two passes depends on their order, so nothing but the same steps gives the same pixels.

use super::Image;

/// The bits behind the point of a weight.
const BITS: u32 = 22;

/// The pixels that make one pixel of the result, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Keys' cubic with a = -1/2.
fn cubic(x: f64) -> f64 {
    let (a, x) = (-0.5, x.abs());
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn taps(from: u32, to: u32) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    // A shrinking filter is as much wider.
    let wide = scale.max(1.0);
    let support = 2.0 * wide;
    let one = |i: u32| {
        let centre = (f64::from(i) + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from as usize);
        let weight = |k: usize| cubic((k as f64 - centre + 0.5) / wide);
        let sum: f64 = (first..end).map(weight).sum();
        let fixed = |w: f64| {
            let w = w / sum * f64::from(1 << BITS);
            (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Taps { first, weights: (first..end).map(|k| fixed(weight(k))).collect() }
    };
    (0..to).map(one).collect()
}

/// The weighted sum of values that are `step` apart, as a byte.
fn weighted(taps: &Taps, values: &[u8], step: usize) -> u8 {
    let values = values.iter().step_by(step);
    let sum: i32 = taps.weights.iter().zip(values).map(|(w, &v)| w * i32::from(v)).sum();
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The pixels of `image` at another size: rows first, then columns.
pub(super) fn resize(image: &Image, width: u32, height: u32) -> Vec<u8> {
    let c = usize::from(image.channels);
    let mut pixels = image.pixels.clone();
    if width != image.width {
        let columns = taps(image.width, width);
        pixels = pixels
            .chunks_exact(image.width as usize * c)
            .flat_map(|row| columns.iter().flat_map(move |t| (0..c).map(move |c| (row, t, c))))
            .map(|(row, t, channel)| weighted(t, &row[t.first * c + channel..], c))
            .collect();
    }
    if height != image.height {
        let (rows, stride) = (taps(image.height, height), width as usize * c);
        pixels = rows
            .iter()
            .flat_map(|t| (0..stride).map(move |x| (t, x)))
            .map(|(t, x)| weighted(t, &pixels[t.first * stride + x..], stride))
            .collect();
    }
    pixels
}

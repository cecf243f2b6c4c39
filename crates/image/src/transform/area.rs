//! Shrinking by area means.

use super::pixels::{Pixels, Texel};

/// Returns the first and the end position (exclusive) of the source pixels of position `i` of `to`, out
/// of `from`. Ranges overlap if `from` is not a multiple of `to`, as in libtorch's
/// `adaptive_avg_pool2d`.
fn span(i: usize, from: usize, to: usize) -> (usize, usize) {
    (i * from / to, ((i + 1) * from).div_ceil(to))
}

/// Shrinks `from` to an image of (width, height) by area means. Returns values between 0 and 1,
/// `[height, width, channels]`.
#[inline(always)]
pub(super) fn shrunk<T: Texel, const C: usize>(
    from: &Pixels<'_, T>,
    (width, height): (usize, usize),
) -> Vec<f32> {
    let columns: Vec<_> = (0..width).map(|x| span(x, from.width, width)).collect();
    let mut out = vec![0.0_f32; width * height * C];
    let mut sums = vec![0.0_f32; from.width * C];
    for (y, row) in out.chunks_exact_mut(width * C).enumerate() {
        let (top, bottom) = span(y, from.height, height);
        let line = |y: usize| &from.pixels[y * from.stride..][..from.width * C];
        for (sum, v) in sums.iter_mut().zip(line(top)) {
            *sum = v.level();
        }
        for y in top + 1..bottom {
            for (sum, v) in sums.iter_mut().zip(line(y)) {
                *sum += v.level();
            }
        }
        let rows = T::SCALE / (bottom - top) as f32;
        for (to, &(left, right)) in row.chunks_exact_mut(C).zip(&columns) {
            let pixels = &sums[left * C..right * C];
            let mut sum = [0.0_f32; C];
            sum.copy_from_slice(&pixels[..C]);
            let mut at = C;
            while at < pixels.len() {
                for c in 0..C {
                    sum[c] += pixels[at + c];
                }
                at += C;
            }
            let scale = rows / (right - left) as f32;
            for c in 0..C {
                to[c] = sum[c] * scale;
            }
        }
    }
    out
}

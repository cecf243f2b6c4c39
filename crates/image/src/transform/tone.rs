//! Color changes of rows of pixels, eight values at a time if the processor supports it.

use super::{Color, color::LUMA};

/// The number of pixels that are processed together.
pub(super) const LANES: usize = 32;

/// The weights of a gray value.
const W: [f32; 3] = [LUMA[0] as f32, LUMA[1] as f32, LUMA[2] as f32];

/// The natural logarithm of 2, split into a part with few bits and the rest.
const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];

/// Computes the natural logarithm of a normal, positive number, within 2 units in the last place: a
/// polynomial around 1 of the mantissa, after Cephes.
#[inline(always)]
fn ln(x: f32) -> f32 {
    // The mantissa between sqrt(1/2) and sqrt(2), and its exponent.
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let mut p = 7.037_683_6e-2;
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * m + c;
    }
    let z = m * m;
    let y = m * z * p - 0.5 * z + exponent * LN_2[1];
    m + y + exponent * LN_2[0]
}

/// Computes the exponential, within 2 units in the last place. Arguments are clamped to -87..=87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding this constant rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let x = x - n * LN_2[0] - n * LN_2[1];
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * x + c;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (p * x * x + x + 1.0) * power
}

#[inline(always)]
fn logit(v: f32) -> f32 {
    let v = if v > 1e-7 { v } else { 1e-7 };
    let v = if v < 1.0 - 1e-7 { v } else { 1.0 - 1e-7 };
    ln(v / (1.0 - v))
}

#[inline(always)]
fn sigmoid(y: f32) -> f32 {
    1.0 / (1.0 + exp(-y))
}

/// Changes some pixels, given as one plane of values between 0 and 1 per channel.
#[inline(always)]
pub(super) fn change<const C: usize>(color: Color, planes: &mut [[f32; LANES]; C]) {
    if color.is_neutral() {
        return;
    }
    match (color, &mut planes[..]) {
        (Color::Logit { scale, luma, add }, [r, g, b]) => {
            let (scale, luma, add) = (scale as f32, luma as f32, add as f32);
            for i in 0..LANES {
                let (x, y, z) = (logit(r[i]), logit(g[i]), logit(b[i]));
                let gray = luma * (x * W[0] + y * W[1] + z * W[2]) + add;
                r[i] = sigmoid(x * scale + gray);
                g[i] = sigmoid(y * scale + gray);
                b[i] = sigmoid(z * scale + gray);
            }
        }
        (Color::Hue(turn), [r, g, b]) => {
            for i in 0..LANES {
                [r[i], g[i], b[i]] = turned([r[i], g[i], b[i]], turn as f32);
            }
        }
        (Color::Logit { scale, luma, add }, planes) => {
            // With one channel, the gray value is the value itself, except for the sum of the weights.
            let scale = (scale + luma * LUMA.iter().sum::<f64>()) as f32;
            for plane in planes {
                for v in plane {
                    *v = sigmoid(logit(*v) * scale + add as f32);
                }
            }
        }
        // One channel has no hue. The other changes need the whole image and are applied to it
        // elsewhere.
        (
            Color::Hue(_)
            | Color::FromMean(_)
            | Color::Sharpen(_)
            | Color::AutoContrast
            | Color::Equalize,
            _,
        ) => {}
        (Color::Linear { scale, luma }, [r, g, b]) => {
            let (scale, luma) = (scale as f32, luma as f32);
            for i in 0..LANES {
                let gray = luma * (r[i] * W[0] + g[i] * W[1] + b[i] * W[2]);
                r[i] = within(r[i] * scale + gray);
                g[i] = within(g[i] * scale + gray);
                b[i] = within(b[i] * scale + gray);
            }
        }
        (Color::Linear { scale, luma }, planes) => {
            // With one channel, the gray value is the value itself.
            let scale = (scale + luma) as f32;
            planes.iter_mut().flatten().for_each(|v| *v = within(*v * scale));
        }
        (Color::Posterize(bits), planes) => {
            let step = f32::from(1_u16 << (8 - bits.min(8)));
            let each = |v: f32| (level(v) / step).floor() * step * (1.0 / 255.0);
            planes.iter_mut().flatten().for_each(|v| *v = each(*v));
        }
        (Color::Solarize(from), planes) => {
            let from = from as f32;
            let each = |v: f32| if level(v) >= from { 1.0 - v } else { v };
            planes.iter_mut().flatten().for_each(|v| *v = each(*v));
        }
    }
}

/// Clamps a value to 0..=1.
#[inline(always)]
pub(super) fn within(v: f32) -> f32 {
    let v = if v > 0.0 { v } else { 0.0 };
    if v < 1.0 { v } else { 1.0 }
}

/// Returns the nearest 8-bit level, 0 to 255.
#[inline(always)]
pub(super) fn level(v: f32) -> f32 {
    (within(v) * 255.0 + 0.5).floor()
}

/// Rotates the hue of a color by a fraction of a full turn.
#[inline(always)]
fn turned([r, g, b]: [f32; 3], turn: f32) -> [f32; 3] {
    let max = if r > g { r } else { g };
    let max = if b > max { b } else { max };
    let min = if r < g { r } else { g };
    let min = if b < min { b } else { min };
    let gray = max == min;
    let range = max - min;
    let saturation = range / if gray { 1.0 } else { max };
    let divisor = if gray { 1.0 } else { range };
    let (rc, gc, bc) = ((max - r) / divisor, (max - g) / divisor, (max - b) / divisor);
    let sixth = if max == r {
        bc - gc
    } else if max == g {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    let hue = (sixth / 6.0 + 1.0) % 1.0 + turn;
    let hue = hue - hue.floor();
    let place = hue * 6.0;
    let sector = place.floor();
    let f = place - sector;
    let level = |v: f32| v.clamp(0.0, 1.0);
    let p = level(max * (1.0 - saturation));
    let q = level(max * (1.0 - saturation * f));
    let t = level(max * (1.0 - saturation * (1.0 - f)));
    match sector as i32 {
        1 => [q, max, p],
        2 => [p, max, t],
        3 => [p, q, max],
        4 => [t, p, max],
        5 => [max, p, q],
        // 6 occurs only if rounding reaches the full circle.
        _ => [max, t, p],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_are_accurate() {
        for i in 1..20_000 {
            let x = (i as f32 * 0.83).exp2() * 1e-7 + i as f32 * 1e-4;
            if !x.is_finite() {
                break;
            }
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() <= 2e-7 * exact.abs().max(0.5), "ln {x}");
        }
        for i in -8_600..8_600 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "exp {x}");
        }
    }

    #[test]
    fn every_value_survives_logit_and_sigmoid() {
        for i in 0..=10_000 {
            let v = i as f32 / 10_000.0;
            assert!((sigmoid(logit(v)) - v).abs() < 3e-7, "{v}");
        }
    }
}

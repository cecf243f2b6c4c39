//! Weighted sums of bytes in fixed point: the inner loops of resizing.

/// The number of fractional bits of a weight.
pub(crate) const WEIGHT_BITS: u32 = 22;
/// One half in fixed point.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);
/// The number of bytes of a row that are summed together in a column.
const BLOCK: usize = 32;

/// The source position and the weights of each position of the result.
#[derive(Debug)]
pub(crate) struct Taps {
    pub(crate) first: Vec<usize>,
    /// The number of weights per position.
    pub(crate) weights: Vec<i32>,
    pub(crate) each: usize,
}

impl Taps {
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.first.iter().copied().zip(self.weights.chunks_exact(self.each))
    }
}

/// Resizes each row of `from` to the width of `taps`. A row has pixels of `C` bytes, is `row` bytes long
/// and begins `stride` bytes after the previous one.
pub(crate) fn weigh_rows<const C: usize>(
    from: &[u8],
    (row, stride): (usize, usize),
    taps: &Taps,
    to: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor supports the instructions, as just checked.
        return unsafe { avx2::weigh_rows::<C>(from, (row, stride), taps, to) };
    }
    plain_rows::<C>(from, (row, stride), taps, to);
}

fn plain_rows<const C: usize>(
    from: &[u8],
    (row, stride): (usize, usize),
    taps: &Taps,
    to: &mut [u8],
) {
    let out = taps.first.len() * C;
    for (from, to) in from.chunks(stride).zip(to.chunks_exact_mut(out)) {
        for ((first, weights), to) in taps.iter().zip(to.chunks_exact_mut(C)) {
            to.copy_from_slice(&pixel::<C>(&from[first * C..row], weights));
        }
    }
}

/// Resizes each column of `from` to the height of `taps`. A row of `from` and of `to` is `row` bytes
/// long; the rows of `from` begin `stride` bytes after each other.
pub(crate) fn weigh_columns(
    from: &[u8],
    (row, stride): (usize, usize),
    taps: &Taps,
    to: &mut [u8],
) {
    for ((first, weights), to) in taps.iter().zip(to.chunks_exact_mut(row)) {
        let from = &from[first * stride..];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor supports the instructions, as just checked.
            unsafe { avx2::weigh_column(from, stride, weights, to) };
            continue;
        }
        plain_column(from, stride, weights, to);
    }
}

fn plain_column(from: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    let (blocks, rest) = to.as_chunks_mut::<BLOCK>();
    let done = blocks.len() * BLOCK;
    for (block, to) in blocks.iter_mut().enumerate() {
        let mut sums = [HALF; BLOCK];
        for (row, w) in from.chunks(stride).zip(weights) {
            for (sum, v) in sums.iter_mut().zip(&row[block * BLOCK..]) {
                *sum += w * i32::from(*v);
            }
        }
        *to = sums.map(byte);
    }
    column_end(&from[done..], stride, weights, rest);
}

/// Computes the last bytes of a row, which do not fill a block.
fn column_end(from: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
    for (x, to) in to.iter_mut().enumerate() {
        let column = from[x..].iter().step_by(stride).zip(weights);
        *to = byte(column.fold(HALF, |sum, (v, w)| sum + w * i32::from(*v)));
    }
}

fn byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

fn pixel<const C: usize>(from: &[u8], weights: &[i32]) -> [u8; C] {
    let mut sums = [HALF; C];
    for (from, w) in from.chunks_exact(C).zip(weights) {
        for (sum, v) in sums.iter_mut().zip(from) {
            *sum += w * i32::from(*v);
        }
    }
    sums.map(byte)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, HALF, Taps, WEIGHT_BITS, column_end, pixel};
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_cvtepu8_epi32, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si32,
        _mm_mullo_epi32, _mm_packus_epi16, _mm_packus_epi32, _mm_set1_epi32, _mm_srai_epi32,
        _mm256_add_epi32, _mm256_cvtepu8_epi32, _mm256_mullo_epi32, _mm256_packus_epi16,
        _mm256_packus_epi32, _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setr_epi32,
        _mm256_srai_epi32, _mm256_storeu_si256,
    };
    use std::ptr;

    /// The number of rows that are processed together, to load the weights once.
    const ROWS: usize = 4;
    const SHIFT: i32 = WEIGHT_BITS as i32;

    /// Implements [`super::weigh_rows`].
    #[target_feature(enable = "avx2")]
    pub(super) fn weigh_rows<const C: usize>(
        from: &[u8],
        shape: (usize, usize),
        taps: &Taps,
        to: &mut [u8],
    ) {
        match taps.each {
            1 => in_blocks::<C, 1>(from, shape, taps, to),
            2 => in_blocks::<C, 2>(from, shape, taps, to),
            3 => in_blocks::<C, 3>(from, shape, taps, to),
            4 => in_blocks::<C, 4>(from, shape, taps, to),
            _ => in_blocks::<C, 0>(from, shape, taps, to),
        }
    }

    /// Computes rows with `T` weights per pixel, or with any number of weights if `T` is 0.
    #[target_feature(enable = "avx2")]
    fn in_blocks<const C: usize, const T: usize>(
        from: &[u8],
        (row, stride): (usize, usize),
        taps: &Taps,
        to: &mut [u8],
    ) {
        let out = taps.first.len() * C;
        for (from, to) in from.chunks(ROWS * stride).zip(to.chunks_mut(ROWS * out)) {
            if to.len() == ROWS * out {
                side_by_side::<C, T, ROWS>(from, (row, stride), taps, to);
                continue;
            }
            for (from, to) in from.chunks(stride).zip(to.chunks_exact_mut(out)) {
                side_by_side::<C, T, 1>(from, (row, stride), taps, to);
            }
        }
    }

    /// Computes `R` rows.
    #[target_feature(enable = "avx2")]
    fn side_by_side<const C: usize, const T: usize, const R: usize>(
        from: &[u8],
        (row, stride): (usize, usize),
        taps: &Taps,
        to: &mut [u8],
    ) {
        let out = taps.first.len() * C;
        let mut rows = [&[][..]; R];
        for (r, from) in from.chunks(stride).take(R).enumerate() {
            rows[r] = &from[..row];
        }
        let each = if T == 0 { taps.each } else { T };
        // A pixel is read and written as four bytes while the row has as many left. The next pixel
        // overwrites the excess byte.
        let reach = each * C - C + 4;
        let whole = taps.first.partition_point(|first| first * C + reach <= row);
        let whole = whole.min(out.saturating_sub(3).div_ceil(C));
        for (x, (first, weights)) in taps.iter().enumerate().take(whole) {
            let weights = &weights[..each];
            let mut sums = [_mm_set1_epi32(HALF); R];
            let mut pixels = [ptr::null(); R];
            for r in 0..R {
                pixels[r] = rows[r][first * C..][..reach].as_ptr();
            }
            for (k, w) in weights.iter().enumerate() {
                let w = _mm_set1_epi32(*w);
                for r in 0..R {
                    // SAFETY: `from` has `reach` bytes, which end four bytes after the start of the last
                    // pixel. A bounds check in this loop would double its time.
                    let four = unsafe { pixels[r].add(k * C).cast::<i32>().read_unaligned() };
                    let four = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
                    sums[r] = _mm_add_epi32(sums[r], _mm_mullo_epi32(four, w));
                }
            }
            for r in 0..R {
                let sum = _mm_srai_epi32::<SHIFT>(sums[r]);
                let bytes = _mm_packus_epi16(_mm_packus_epi32(sum, sum), sum);
                let four: Option<&mut [u8; 4]> = to[r * out + x * C..].first_chunk_mut();
                *four.expect("there is room") = _mm_cvtsi128_si32(bytes).to_ne_bytes();
            }
        }
        for (x, (first, weights)) in taps.iter().enumerate().skip(whole) {
            for r in 0..R {
                let last = pixel::<C>(&rows[r][first * C..], weights);
                to[r * out + x * C..][..C].copy_from_slice(&last);
            }
        }
    }

    /// Computes a row of [`super::weigh_columns`].
    #[target_feature(enable = "avx2")]
    pub(super) fn weigh_column(from: &[u8], stride: usize, weights: &[i32], to: &mut [u8]) {
        let (blocks, rest) = to.as_chunks_mut::<BLOCK>();
        column_end(&from[blocks.len() * BLOCK..], stride, weights, rest);
        // Pack instructions work within each half of a register.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for (block, to) in blocks.iter_mut().enumerate() {
            let mut sums = [_mm256_set1_epi32(HALF); 4];
            for (row, w) in from.chunks(stride).zip(weights) {
                let row: &[u8; BLOCK] = row[block * BLOCK..].first_chunk().expect("it is as long");
                let w = _mm256_set1_epi32(*w);
                for (sum, eight) in sums.iter_mut().zip(row.as_chunks::<8>().0) {
                    let eight = _mm_cvtsi64_si128(i64::from_ne_bytes(*eight));
                    let eight = _mm256_cvtepu8_epi32(eight);
                    *sum = _mm256_add_epi32(*sum, _mm256_mullo_epi32(eight, w));
                }
            }
            for sum in &mut sums {
                *sum = _mm256_srai_epi32::<SHIFT>(*sum);
            }
            let [a, b, c, d] = sums;
            let halves = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
            let bytes = _mm256_permutevar8x32_epi32(halves, order);
            // SAFETY: a block is as long as the bytes written, and the store needs no alignment.
            unsafe { _mm256_storeu_si256(ptr::from_mut(to).cast(), bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns pseudo-random numbers.
    fn noise(n: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    /// Returns taps for `to` positions in `from` values, `each` weights at a time, including negative
    /// weights and sums that exceed a byte.
    fn taps(from: usize, to: usize, each: usize) -> Taps {
        let first = (0..to).map(|x| x * (from - each) / to.max(1)).collect();
        let weight = |v: u8| (i32::from(v) - 90) << 12;
        Taps { first, weights: noise(to * each).into_iter().map(weight).collect(), each }
    }

    fn check_rows<const C: usize>(width: usize, height: usize, to: usize, each: usize) {
        let (row, stride) = (width * C, width * C + 5);
        // No bytes follow the last pixel, as at the end of an image.
        let from = noise(stride * (height - 1) + row);
        let taps = taps(width, to, each);
        let mut plain = vec![0; to * C * height];
        let mut fast = plain.clone();
        plain_rows::<C>(&from, (row, stride), &taps, &mut plain);
        weigh_rows::<C>(&from, (row, stride), &taps, &mut fast);
        assert_eq!(fast, plain, "{width}x{height} to {to}, {each} each, {C} channels");
    }

    #[test]
    fn rows_are_the_same_with_and_without_vectors() {
        for each in 1..=7 {
            for (width, height, to) in [(7, 1, 1), (7, 4, 2), (9, 5, 3), (40, 11, 23), (8, 9, 64)] {
                check_rows::<1>(width, height, to, each);
                check_rows::<3>(width, height, to, each);
            }
        }
    }

    #[test]
    fn columns_are_the_same_with_and_without_vectors() {
        for (row, height, to, each) in [(1, 3, 2, 2), (31, 8, 5, 3), (32, 8, 20, 7), (101, 9, 4, 1)]
        {
            let stride = row + 3;
            let from = noise(stride * (height - 1) + row);
            let taps = taps(height, to, each);
            let mut fast = vec![0; row * to];
            weigh_columns(&from, (row, stride), &taps, &mut fast);
            for ((first, weights), fast) in taps.iter().zip(fast.chunks(row)) {
                let mut plain = vec![0; row];
                plain_column(&from[first * stride..], stride, weights, &mut plain);
                assert_eq!(fast, plain, "{row} bytes, {height} to {to}, {each} each");
            }
        }
    }
}

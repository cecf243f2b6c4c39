//! Converts bytes to fractions, with vector instructions if the processor supports them.

/// Converts bytes to values from 0 to 1 by a division by 255, as fastai does. It is meant for outputs larger than
/// the processor's caches: with AVX2, they are written with streaming stores, which do not read the memory first.
pub(crate) fn fractions(bytes: &[u8], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the line above checks that the processor supports AVX2.
        return unsafe { stream_fractions(bytes, to) };
    }
    divide(bytes, to);
}

fn divide(bytes: &[u8], to: &mut [f32]) {
    for (to, &v) in to.iter_mut().zip(bytes) {
        *to = f32::from(v) / 255.0;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn stream_fractions(bytes: &[u8], to: &mut [f32]) {
    use std::arch::x86_64::{__m256, _mm_sfence, _mm256_loadu_ps, _mm256_stream_ps};
    let n = bytes.len().min(to.len());
    // SAFETY: any eight floats are a valid `__m256`, and any `__m256` is eight valid floats.
    let (start, blocks, end) = unsafe { to[..n].align_to_mut::<__m256>() };
    let (first, rest) = bytes[..n].split_at(start.len());
    let (eights, last) = rest.as_chunks::<8>();
    divide(first, start);
    divide(last, end);
    for (to, eight) in blocks.iter_mut().zip(eights) {
        let values = eight.map(|v| f32::from(v) / 255.0);
        // SAFETY: the call reads eight values and writes one aligned block.
        unsafe {
            _mm256_stream_ps(std::ptr::from_mut(to).cast(), _mm256_loadu_ps(values.as_ptr()))
        };
    }
    // Streaming stores are unordered; the fence orders them before later writes.
    _mm_sfence();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_divided_wherever_it_lies() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (from, n) in [(0, 1000), (1, 3), (3, 501), (5, 0), (7, 16), (2, 37)] {
            let mut to = vec![-1.0; 1010];
            fractions(&bytes[from..from + n], &mut to[from..from + n]);
            for (k, v) in to.iter().enumerate() {
                let inside = (from..from + n).contains(&k);
                assert_eq!(*v, if inside { f32::from(bytes[k]) / 255.0 } else { -1.0 }, "{k}");
            }
        }
    }
}

//! Vector instructions where the processor has them.

/// Work to be compiled for vector instructions. Whatever is to use them must be inlined into `run`,
/// which itself must be `#[inline(always)]`.
pub(crate) trait Work {
    /// Does it.
    fn run(self);
}

/// Does `work` with the vector instructions of this processor. No operation is reordered or fused for
/// them, so results are the same, bit for bit, on every processor.
pub(crate) fn vectorized(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked.
        return unsafe { avx2(work) };
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(work: impl Work) {
    work.run();
}

//! Vector instructions, if the processor supports them.

/// Work that is compiled for vector instructions. Functions that use them must be inlined into `run`,
/// which must be `#[inline(always)]`.
pub(crate) trait Work {
    /// Runs the work.
    fn run(self);
}

/// Runs `work` with the vector instructions of this processor. They do not reorder or fuse operations,
/// so that results are bit-identical on every processor.
pub(crate) fn vectorized(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor supports the instructions, as just checked.
        return unsafe { avx2(work) };
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(work: impl Work) {
    work.run();
}

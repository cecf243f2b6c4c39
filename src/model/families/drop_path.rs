//! Stochastic depth.

use tch::Tensor;

/// Skips the branch of a block for some images of a batch in training, and scales it up for the others.
/// Huang et al., [Stochastic Depth](https://arxiv.org/abs/1603.09382).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DropPath(f64);

impl DropPath {
    /// Skips with probability `p`.
    pub(super) fn new(p: f64) -> Self {
        Self(p)
    }

    /// Returns the rate of block `i` of `n`: linear from 0 for the first to `rate` for the last.
    pub(super) fn linear(rate: f64, i: usize, n: usize) -> Self {
        Self(if n > 1 { rate * i as f64 / (n - 1) as f64 } else { 0.0 })
    }

    pub(super) fn apply(self, branch: Tensor, train: bool) -> Tensor {
        if !train || self.0 <= 0.0 {
            return branch;
        }
        let kept = 1.0 - self.0;
        let mut shape = vec![1; branch.dim()];
        shape[0] = branch.size()[0];
        let mut noise = Tensor::empty(shape, (branch.kind(), branch.device()));
        let noise = noise.bernoulli_float_(kept);
        branch * if kept > 0.0 { noise / kept } else { noise }
    }
}

//! A reimplementation of libtorch's CPU generator.

use rand_mt::Mt;

/// The numbers of libtorch's CPU generator after `manual_seed`, so that a split with a seed equals
/// PyTorch's. libtorch's own generator is not changed.
///
/// ```
/// use finetune::data::TorchRng;
///
/// // torch.manual_seed(42); torch.randperm(10)
/// assert_eq!(TorchRng::new(42).permutation(10), [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchRng(Mt);

impl TorchRng {
    /// Returns the generator after `torch.manual_seed(seed)`, which uses the lower 32 bits.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mt::new(seed as u32))
    }

    /// Returns `torch.randperm(n)` on the CPU: 0 to n - 1 in random order.
    ///
    /// # Panics
    /// As [`Vec::with_capacity`], if `n` numbers need more than `isize::MAX` bytes.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        // From this length on, libtorch draws 64 bits per element and builds the order inside out.
        const LONG: usize = (u32::MAX / 20) as usize;
        if n >= LONG {
            let mut order = vec![0; n];
            for i in 0..n {
                let z = (self.next_u64() % (i as u64 + 1)) as usize;
                order[i] = order[z];
                order[z] = i;
            }
            return order;
        }
        let mut order: Vec<usize> = (0..n).collect();
        for i in 0..n.saturating_sub(1) {
            order.swap(i, i + self.0.next_u32() as usize % (n - i));
        }
        order
    }

    /// Combines two draws, the upper half first.
    fn next_u64(&mut self) -> u64 {
        u64::from(self.0.next_u32()) << 32 | u64::from(self.0.next_u32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a checksum that depends on the position of each element.
    fn sum(order: &[usize]) -> usize {
        order.iter().enumerate().map(|(i, p)| p * (i % 1000)).sum()
    }

    #[test]
    fn permutations_of_millions_are_libtorchs() {
        let order = TorchRng::new(5).permutation(1_200_000);
        assert_eq!(order[..4], [653_411, 597_012, 573_001, 534_813]);
        assert_eq!(order[1_199_997..], [526_378, 645_806, 767_738]);
        assert_eq!(sum(&order), 359_570_501_297_241);
        // Only the lower 32 bits of the seed are used.
        let order = TorchRng::new((1 << 40) + (1 << 31) + 7).permutation(3_000_000);
        assert_eq!(order[..4], [1_007_043, 2_841_550, 373_698, 1_921_379]);
        assert_eq!(sum(&order), 2_247_765_958_668_054);
    }

    #[test]
    #[ignore = "takes 1.7 GB: permutations of more than 214 million items"]
    fn long_permutations_are_libtorchs_too() {
        let head = |n| TorchRng::new(7).permutation(n)[..3].to_vec();
        assert_eq!(head(214_748_363), [112_993_252, 117_420_445, 128_500_308]);
        assert_eq!(head(214_748_364), [93_268_064, 63_068_233, 165_770_247]);
    }
}

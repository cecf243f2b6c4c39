//! Random streams that are derived from the seed and their use instead of being shared.
//!
//! Each use of random numbers has its own generator, created from the seed and the *address* of the use:
//! item 7 of pass 2, batch 3 of pass 0. Draws therefore depend neither on the number of workers, nor on the
//! order of work, nor on earlier draws, and a run can resume at any batch without saved generators.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// The generator of every stream: ChaCha with 8 rounds, with the same numbers on every platform.
pub type Rng = ChaCha8Rng;

/// A seed: the only source of random generators in this crate. A number defines it, so the struct is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

/// The use of a stream of random numbers. Different streams have different generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stream {
    /// A random split of items.
    Split,
    /// The order of a pass over the training items.
    Shuffle {
        /// The pass over the data, counted over all fits of a learner.
        pass: u64,
    },
    /// The item transforms of one item.
    Item {
        /// The pass over the data.
        pass: u64,
        /// The index of the item in the data set.
        index: u64,
    },
    /// The batch transforms of one batch.
    Batch {
        /// The pass over the data.
        pass: u64,
        /// The batch, from 0.
        index: u64,
    },
    /// libtorch's own generator during one training step, for dropout.
    Step {
        /// The number of training steps taken before, over all fits.
        step: u64,
    },
    /// The initial weights of a model.
    Init,
    /// A callback's own draws for one batch, for example MixUp's.
    Callback {
        /// The number of training steps taken before, over all fits.
        step: u64,
    },
    /// The inner split of the training items by which a linear probe chooses its regularization.
    Probe,
}

impl Seed {
    /// Returns the generator of `stream`. The address is the key of the generator, so streams cannot
    /// collide.
    ///
    /// ```
    /// use finetune::seed::{Seed, Stream};
    /// use rand::Rng;
    ///
    /// let draw = |index| Seed(42).rng(Stream::Item { pass: 0, index }).next_u64();
    /// assert_eq!(draw(7), draw(7));
    /// assert_ne!(draw(7), draw(8));
    /// ```
    #[must_use]
    pub fn rng(self, stream: Stream) -> Rng {
        let (tag, a, b) = match stream {
            Stream::Split => (1, 0, 0),
            Stream::Shuffle { pass } => (2, pass, 0),
            Stream::Item { pass, index } => (3, pass, index),
            Stream::Batch { pass, index } => (4, pass, index),
            Stream::Step { step } => (5, step, 0),
            Stream::Init => (6, 0, 0),
            Stream::Callback { step } => (7, step, 0),
            Stream::Probe => (8, 0, 0),
        };
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([self.0, tag, a, b]) {
            bytes.copy_from_slice(&u64::to_le_bytes(word));
        }
        Rng::from_seed(key)
    }
}

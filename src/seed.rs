//! Random streams that are addressed by their use instead of shared.
//!
//! Each use of random numbers has its own generator, made from the seed and the *address* of the
//! use: item 7 of pass 2, batch 3 of pass 0. What is drawn therefore depends neither on the number
//! of workers, nor on the order of work, nor on what was drawn before, and a run continues from any
//! batch without saved generators.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// The generator of every stream: ChaCha with 8 rounds, the same numbers on every platform.
pub type Rng = ChaCha8Rng;

/// A seed: the only source of random generators in this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

/// The use of a stream of random numbers. Two streams give the same numbers only if they are equal.
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
        /// The item's position in the data set.
        index: u64,
    },
    /// The batch transforms of one batch.
    Batch {
        /// The pass over the data.
        pass: u64,
        /// The batch, from 0.
        index: u64,
    },
    /// libtorch's own generator during one training step: dropout.
    Step {
        /// Training steps taken before, over all fits.
        step: u64,
    },
    /// The initial weights of a model.
    Init,
    /// A callback's own draws for one batch, such as MixUp's.
    Callback {
        /// Training steps taken before, over all fits.
        step: u64,
    },
}

impl Seed {
    /// Returns the generator of `stream`. The address is the key of the generator, so that streams
    /// cannot collide.
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
        };
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([self.0, tag, a, b]) {
            bytes.copy_from_slice(&u64::to_le_bytes(word));
        }
        Rng::from_seed(key)
    }
}

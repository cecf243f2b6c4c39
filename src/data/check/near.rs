//! Finds near-duplicates across the two splits by perceptual hash, and confirms them by their colors.

use super::report::NearDuplicate;
use crate::{
    data::{caught, dataset::Dataset},
    image::{Filter, Image},
    sample::Split,
};
use image_hasher::{HashAlg, HasherConfig};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The maximum number of the 64 bits in which the hashes of a pair differ.
const BITS: u32 = 7;
/// The maximum mean difference in levels of the thumbnails of a pair.
const LEVELS: u32 = 10;
/// The side of the thumbnails in pixels.
const SIDE: u32 = 8;
/// The number of pairs whose images are kept.
const PICTURES: usize = 24;
/// The longer side of these images in pixels.
const PICTURE_SIDE: u32 = 200;

/// The hash and the thumbnail of an image.
#[derive(Debug, Clone, Copy)]
pub(in crate::data) struct Print {
    hash: u64,
    /// The image in 8 × 8 pixels of three channels.
    small: [u8; (SIDE * SIDE * 3) as usize],
}

impl Print {
    /// Returns the print of an image.
    pub(in crate::data) fn of(image: &Image) -> Option<Self> {
        // Hashing begins with a slow resize, so shrink the image first.
        let medium = image.resize(64, 64, Filter::Area).ok()?;
        let small = medium.resize(SIDE, SIDE, Filter::Area).ok()?;
        let gray = medium.pixels().chunks_exact(medium.channels().into());
        let gray =
            gray.map(|p| (p.iter().map(|v| u32::from(*v)).sum::<u32>() / p.len() as u32) as u8);
        let gray = ::image::GrayImage::from_raw(64, 64, gray.collect())?;
        let hasher = HasherConfig::new().hash_size(8, 8).hash_alg(HashAlg::Mean).preproc_dct();
        let hash = hasher.to_hasher().hash_image(&gray);
        let hash = u64::from_le_bytes(hash.as_bytes().try_into().ok()?);
        let mut colors = small.pixels().chunks_exact(small.channels().into());
        let mut of = [0; (SIDE * SIDE * 3) as usize];
        for to in of.chunks_exact_mut(3) {
            let from = colors.next()?;
            // Gray images have one channel, which is used three times.
            to.iter_mut().enumerate().for_each(|(c, to)| *to = *from.get(c).unwrap_or(&from[0]));
        }
        Some(Self { hash, small: of })
    }

    /// Returns the number of bits in which two prints differ, if they are alike.
    fn distance(&self, other: &Self) -> Option<u32> {
        let bits = (self.hash ^ other.hash).count_ones();
        let levels = self.small.iter().zip(&other.small).map(|(a, b)| u32::from(a.abs_diff(*b)));
        (bits <= BITS && levels.sum::<u32>() <= LEVELS * self.small.len() as u32).then_some(bits)
    }
}

/// An item with its split, the hash of its content, and its print.
type Seen = (usize, Split, [u8; 32], Print);

/// Returns the pairs of a training and a validation item that look alike but differ in content, most
/// similar first.
pub(in crate::data) fn near_duplicates(
    dataset: &dyn Dataset,
    seen: Vec<Seen>,
) -> Vec<NearDuplicate> {
    let (train, valid): (Vec<Seen>, Vec<Seen>) =
        seen.into_iter().partition(|s| s.1 == Split::Train);
    // Hashes that differ in at most 7 bits have one of 8 bytes in common.
    let mut by_byte: BTreeMap<(usize, u8), Vec<usize>> = BTreeMap::new();
    for (k, (_, _, _, print)) in train.iter().enumerate() {
        for (place, byte) in print.hash.to_le_bytes().into_iter().enumerate() {
            by_byte.entry((place, byte)).or_default().push(k);
        }
    }
    let alike = |(item, _, content, print): &Seen| {
        let mut pairs = BTreeMap::new();
        for (place, byte) in print.hash.to_le_bytes().into_iter().enumerate() {
            for &k in by_byte.get(&(place, byte)).into_iter().flatten() {
                let (other, _, other_content, other_print) = &train[k];
                if content != other_content
                    && let Some(bits) = print.distance(other_print)
                {
                    pairs.insert(*other, bits);
                }
            }
        }
        pairs.into_iter().map(|(other, bits)| (bits, other, *item)).collect::<Vec<_>>()
    };
    let mut pairs: Vec<_> = valid.par_iter().flat_map_iter(alike).collect();
    pairs.sort_unstable();
    let pair = |(k, (distance, train, valid)): (usize, (u32, usize, usize))| {
        let name = |item| caught::name(|item| dataset.name(item), item);
        NearDuplicate {
            train,
            valid,
            names: [name(train), name(valid)],
            distance,
            pictures: (k < PICTURES)
                .then(|| Some([picture(dataset, train)?, picture(dataset, valid)?]))
                .flatten(),
        }
    };
    pairs.into_iter().enumerate().map(pair).collect()
}

/// Returns a small version of an item's image.
fn picture(dataset: &dyn Dataset, item: usize) -> Option<Image> {
    let get = || dataset.get(item);
    let image = caught::caught(get, String::new, String::new).ok()?.image;
    let scale = f64::from(PICTURE_SIDE) / f64::from(image.width().max(image.height()));
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    if scale >= 1.0 {
        return Some(image);
    }
    image.resize(side(image.width()), side(image.height()), Filter::Area).ok()
}

//! Finds files that are not images.

use crate::image::Decode;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Returns the files that cannot be decoded, in the given order. Uses all processors.
///
/// fastai's [`verify_images`](https://docs.fast.ai/vision.utils.html#verify_images) finds the same files if
/// they are truncated or of an unknown format; it decodes JPEG files at a reduced size, this function in
/// full.
///
/// ```no_run
/// use finetune::data::{get_image_files, verify_images};
///
/// let files = get_image_files("photos")?;
/// for failed in verify_images(&files) {
///     println!("{} cannot be decoded", failed.display());
/// }
/// # Ok::<(), finetune::Error>(())
/// ```
#[must_use]
pub fn verify_images<P: AsRef<Path> + Sync>(files: &[P]) -> Vec<PathBuf> {
    let broken = |path: &P| {
        let path = path.as_ref();
        Decode::new().open(path).is_err().then(|| path.to_owned())
    };
    files.par_iter().filter_map(broken).collect()
}

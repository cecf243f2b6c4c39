//! Which files are no pictures.

use crate::image::Decode;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The files that cannot be decoded, in the order given. All processors take part.
///
/// fastai's `verify_images` (<https://docs.fast.ai/vision.utils.html#verify_images>) tells the same of
/// files that are broken off or of an unknown format; it decodes JPEG files at a reduced size, this in
/// full.
///
/// ```no_run
/// use finetune::data::{get_image_files, verify_images};
///
/// let files = get_image_files("photos")?;
/// for failed in verify_images(&files) {
///     println!("{} is no picture", failed.display());
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

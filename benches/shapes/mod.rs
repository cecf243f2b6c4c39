//! The segmentation data that `scripts/shapes` writes.

use finetune::{
    Result,
    data::{FuncSplitter, MaskBlock},
    prelude::*,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the images of a folder with their masks. The number of the photo decides the split, so that
/// both sides of a comparison use the same split.
pub(crate) fn block(folder: &Path) -> Result<DataBlock<MaskBlock>> {
    let at = folder.to_owned();
    let codes = fs::read_to_string(at.join("codes.txt")).map_err(Error::io(&at))?;
    let number = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.split('_').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0)
    };
    let block = DataBlock::blocks(ImageBlock::rgb(), MaskBlock::new(codes.split_whitespace()));
    Ok(block
        .get_items(|folder| get_image_files(&folder.join("images")))
        .get_y(move |file: &PathBuf| {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            Ok(at.join("masks").join(format!("{name}.png")).into())
        })
        .splitter(FuncSplitter::new(move |file| number(file) % 5 == 0)))
}

//! Loading a photo with any content succeeds or returns an error.
#![no_main]

use finetune::{
    data::{CategoryBlock, DataBlock, ImageBlock, IndexSplitter},
    tch::Device,
    transform::Resize,
};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};

fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("finetune-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(folder.join("a.jpg"), data).expect("the folder can be written");
    std::fs::write(folder.join("b.jpg"), data).expect("the folder can be written");
    let dls = DataBlock::blocks(ImageBlock::rgb().max_pixels(1 << 22), CategoryBlock::new())
        .get_items(|folder: &Path| Ok(vec![folder.join("a.jpg"), folder.join("b.jpg")]))
        .get_y(|path: &PathBuf| Ok(path.display().to_string()))
        .splitter(IndexSplitter::new(vec![]))
        .item_tfms(Resize::new(16))
        .bs(1)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders(folder)
        .expect("two classes of one item each have loaders");
    let _ = dls.train().one_batch();
});

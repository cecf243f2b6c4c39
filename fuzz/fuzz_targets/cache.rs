//! A cache file with any content is used, or its images are decoded again. Its digest is corrected here,
//! except for every fourth input, which is the whole file.
#![no_main]

use finetune::{
    data::{Cache, CategoryBlock, DataBlock, ImageBlock, IndexSplitter},
    tch::Device,
    transform::Resize,
};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const HEAD: &[u8] = b"finetune: presized images, 2\n";

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let path = std::env::temp_dir().join(format!("finetune-fuzz-{}.cache", std::process::id()));
    let mut file = vec![];
    if first % 4 == 0 {
        file.extend(rest);
    } else {
        file.extend(HEAD);
        file.extend([7; 4096]);
        let at = file.len() as u64;
        file.extend(rest);
        file.extend(at.to_le_bytes());
        file.extend((rest.len() as u64).to_le_bytes());
        file.extend(Sha256::digest(rest));
    }
    std::fs::write(&path, file).expect("the folder can be written");
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pets/images");
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(|folder: &Path| {
            Ok(["Bengal_1.jpg", "Bengal_101.jpg"]
                .iter()
                .map(|n| folder.join(n))
                .collect::<Vec<PathBuf>>())
        })
        .get_y(|path: &PathBuf| Ok(path.display().to_string()))
        .splitter(IndexSplitter::new(vec![]))
        .item_tfms(Resize::new(16))
        .bs(1)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders(photos)
        .expect("two classes of one photo each have loaders");
    if let Ok(dls) = dls.cached(&Cache::file(&path, 1 << 20)) {
        let _ = dls.train().one_batch();
    }
});

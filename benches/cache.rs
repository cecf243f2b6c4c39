//! The speed of the presize cache: `cargo bench --bench cache -- DIR [WORKERS]`.
//!
//! Prints one JSON line each for no cache, a cache in memory and a cache in a file, with the images per
//! second of the first epoch and the best of three later ones. The photos are those of DIR, at 460
//! pixels as in `peer`, without batch transforms.
#![allow(clippy::print_stdout, reason = "its figures are its output")]

use finetune::{
    Result,
    data::{
        Cache, CategoryBlock, DataBlock, ImageBlock, RegexLabeller, get_image_files, using_name,
    },
    transform::Resize,
};
use std::{env, path::Path, time::Instant};
use tch::Device;

fn measure(photos: &Path, workers: usize, cache: Option<Cache>) -> Result<(f64, f64)> {
    let block = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(460))
        .num_workers(workers)
        .device(Device::Cpu);
    let block = match cache {
        Some(cache) => block.cache(cache),
        None => block,
    };
    let dls = block.dataloaders(photos)?;
    // Every epoch has the same order, so that the first one reads all items that a later one reads.
    let epoch = || {
        let start = Instant::now();
        let mut n = 0;
        for batch in dls.train().batches(0) {
            n += batch?.items.len();
        }
        Ok::<_, finetune::Error>(n as f64 / start.elapsed().as_secs_f64())
    };
    let first = epoch()?;
    let later = (0..3).map(|_| epoch()).collect::<Result<Vec<_>>>()?;
    Ok((first, later.into_iter().fold(0.0, f64::max)))
}

fn main() -> Result<()> {
    let mut args = env::args().skip(1).filter(|a| !a.starts_with("--"));
    let photos = args.next().unwrap_or_else(|| "data/pets/images".into());
    let workers = args.next().and_then(|w| w.parse().ok()).unwrap_or(2);
    let folder = tempfile::tempdir().map_err(finetune::Error::other)?;
    let file = folder.path().join("photos.cache");
    let caches = [
        ("none", None),
        ("memory", Some(Cache::memory(8 << 30))),
        ("file", Some(Cache::file(file, 8 << 30))),
    ];
    for (name, cache) in caches {
        let (first, later) = measure(photos.as_ref(), workers, cache)?;
        let ratio = later / first;
        println!(
            r#"{{"cache": "{name}", "first": {first:.0}, "later": {later:.0}, "ratio": {ratio:.2}}}"#
        );
    }
    Ok(())
}

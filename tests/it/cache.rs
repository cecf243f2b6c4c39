//! The guarantees of the presize cache: the same batches, no repeated decoding, a limit, and a file that
//! is always complete.

use finetune::{
    Result,
    data::{
        Cache, CategoryBlock, DataBlock, DataLoader, DataLoaders, ImageBlock, LoaderOptions,
        OnError, RegexLabeller, get_image_files, using_name,
    },
    image::Image,
    sample::Split,
    transform::{ItemTransform, Method, Resize},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
};
use tch::{Device, Kind};
use tempfile::TempDir;

/// Returns a temporary folder with 16 photos.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let photos = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/pets/images");
    let of = |breed: &str| {
        let files = get_image_files(&photos).unwrap().into_iter();
        let name = |f: &PathBuf| f.file_name().unwrap().to_string_lossy().into_owned();
        files
            .map(|f| (name(&f), f))
            .filter(|(n, _)| n.starts_with(breed))
            .take(8)
            .collect::<Vec<_>>()
    };
    let files = [of("Bengal"), of("american")].concat();
    fs::create_dir(folder.path().join("images")).unwrap();
    for (name, file) in files {
        fs::copy(file, folder.path().join("images").join(name)).unwrap();
    }
    folder
}

fn block() -> DataBlock<CategoryBlock> {
    DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$").unwrap()))
        .bs(4)
        .num_workers(2)
        .device(Device::Cpu)
}

/// Returns loaders of photos whose shorter side is 150 to 256 pixels, resized to 96.
fn loaders(folder: &TempDir, cache: Option<Cache>) -> DataLoaders {
    let block = block().item_tfms(Resize::new(96));
    let block = match cache {
        Some(cache) => block.cache(cache),
        None => block,
    };
    block.dataloaders(folder.path().join("images")).unwrap()
}

fn all(loader: &DataLoader, pass: u64) -> Vec<(Vec<usize>, Vec<f32>)> {
    let numbers = |b: finetune::sample::Batch| {
        (b.items, Vec::<f32>::try_from(b.x.contiguous().view([-1])).unwrap())
    };
    loader.batches(pass).map(|batch| numbers(batch.unwrap())).collect()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("photos.cache")
}

const PLENTY: u64 = 64 << 20;

/// Replaces a file with other text of the same size and time.
fn spoil(path: &Path) {
    let about = fs::metadata(path).unwrap();
    fs::write(path, vec![b'x'; about.len() as usize]).unwrap();
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(about.modified().unwrap()).unwrap();
}

fn spoil_all(folder: &TempDir) {
    get_image_files(&folder.path().join("images")).unwrap().iter().for_each(|f| spoil(f));
}

#[test]
fn validation_is_the_same_bit_for_bit_and_training_nearly() {
    let folder = folder();
    let plain = loaders(&folder, None);
    for cache in [Cache::memory(PLENTY), Cache::file(file(&folder), PLENTY)] {
        let kept = loaders(&folder, Some(cache));
        for pass in 0..3 {
            assert_eq!(all(kept.valid(), pass), all(plain.valid(), pass));
        }
        for ((ours, x), (theirs, y)) in all(kept.train(), 2).iter().zip(&all(plain.train(), 2)) {
            assert_eq!(ours, theirs);
            let far: f32 = x.iter().zip(y).map(|(a, b)| (a - b).abs()).sum();
            let far = far / x.len() as f32;
            // The difference is a shift of half a pixel, and two interpolations instead of one.
            assert!(far < 0.04, "{far} from the crop of the original");
        }
    }
}

#[test]
fn batches_do_not_depend_on_the_content_of_the_cache() {
    let folder = folder();
    let first = loaders(&folder, Some(Cache::memory(PLENTY)));
    let expected = [all(first.train(), 0), all(first.train(), 1)];
    assert_ne!(expected[0], expected[1], "crops differ from epoch to epoch");
    assert_eq!(all(first.train(), 0), expected[0], "from memory as from the file");
    let caches = [Cache::memory(0), Cache::memory(200_000), Cache::file(file(&folder), 200_000)];
    for cache in caches {
        for workers in [0, 8] {
            let dls = loaders(&folder, Some(cache.clone()));
            let dls = dls.with(LoaderOptions::new().num_workers(workers)).unwrap();
            assert_eq!(all(dls.train(), 1), expected[1]);
            assert_eq!(all(dls.train(), 0), expected[0]);
            let status = dls.cache_status().unwrap();
            assert!(status.full && status.bytes <= 200_000 && status.error.is_none());
        }
    }
}

#[test]
fn crops_of_one_photo_differ_from_epoch_to_epoch() {
    let folder = folder();
    let dls = loaders(&folder, Some(Cache::memory(PLENTY)));
    let item = dls.train().items()[0];
    let crops: Vec<_> = (0..6).map(|pass| dls.train().sample(item, pass).unwrap().image).collect();
    let others = crops.iter().filter(|c| **c != crops[0]).count();
    assert!(others >= 3, "{others} of 5 crops are others");
}

#[test]
fn a_photo_is_kept_at_its_final_size_up_to_four_times_its_memory() {
    let photo = Image::new(300, 200, 3, vec![7; 300 * 200 * 3]).unwrap();
    let kept = |size, split| {
        let kept = Resize::new(size).presize(&photo, split).unwrap();
        kept.map(|kept| (kept.width(), kept.height()))
    };
    assert_eq!(kept(100, Split::Train), Some((150, 100)), "it shrinks");
    assert_eq!(kept(400, Split::Train), Some((600, 400)), "four times the memory");
    assert_eq!(kept(402, Split::Train), None, "more than that");
    assert_eq!(kept(402, Split::Valid), Some((402, 402)), "the result");
}

#[test]
fn nothing_is_decoded_again_in_this_run_or_the_next() {
    let folder = folder();
    let memory = loaders(&folder, Some(Cache::memory(PLENTY)));
    let dls = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    let expected = [all(dls.train(), 0), all(dls.train(), 1), all(dls.valid(), 0)];
    all(memory.train(), 0);
    all(memory.valid(), 0);
    spoil_all(&folder);
    // The last, partial training batch is dropped, so that the items of passes 0 and 1 may differ.
    assert_eq!(all(dls.train(), 0), expected[0]);
    assert_eq!(all(dls.valid(), 0), expected[2]);
    assert_eq!(all(memory.train(), 0), expected[0]);
    drop(dls);
    let next = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    assert!(next.cache_status().unwrap().images >= 15);
    assert_eq!(all(next.train(), 0), expected[0]);
    assert_eq!(all(next.valid(), 0), expected[2]);
}

#[test]
fn a_cache_can_be_filled_before_the_first_epoch() {
    let folder = folder();
    let plain = loaders(&folder, None);
    let e = plain.fill_cache().unwrap_err().to_string();
    assert!(e.contains("there is no cache"), "{e}");
    let expected = all(loaders(&folder, Some(Cache::memory(PLENTY))).train(), 0);
    for (cache, workers) in [(Cache::memory(PLENTY), 0), (Cache::file(file(&folder), PLENTY), 3)] {
        let dls = loaders(&folder, Some(cache));
        let dls = dls.with(LoaderOptions::new().num_workers(workers)).unwrap();
        let status = dls.fill_cache().unwrap();
        assert_eq!((status.images, status.full, status.error.as_ref()), (16, false, None));
        assert_eq!(dls.fill_cache().unwrap(), status, "nothing is added twice");
        assert_eq!(all(dls.train(), 0), expected);
    }
    // The file is complete, and serves the next run, in which no photo can be decoded.
    spoil_all(&folder);
    let next = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    assert_eq!(next.cache_status().unwrap().images, 16);
    assert_eq!(all(next.train(), 0), expected);

    // An image that cannot be decoded is an error that names it, or is skipped.
    let empty = || Some(Cache::memory(PLENTY));
    let e = loaders(&folder, empty()).fill_cache().unwrap_err().to_string();
    assert!(e.contains(".jpg"), "{e}");
    let skipping = LoaderOptions::new().on_error(OnError::Skip);
    let dls = loaders(&folder, empty()).with(skipping).unwrap();
    assert_eq!((dls.fill_cache().unwrap().images, dls.skipped().len()), (0, 16));
    // If the limit is too small for all images, filling stops.
    let folder = self::folder();
    let small = loaders(&folder, Some(Cache::memory(200_000))).fill_cache().unwrap();
    assert!(small.full && small.images > 0 && small.bytes <= 200_000, "{small:?}");
}

#[test]
fn changed_images_are_loaded_again() {
    let folder = folder();
    let cached = || loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    let dls = cached();
    let item = dls.valid().items()[0];
    let before = dls.valid().sample(item, 0).unwrap().image;
    let path = PathBuf::from(dls.name(item));
    image::RgbImage::from_pixel(120, 110, image::Rgb([9, 9, 9]))
        .save_with_format(&path, image::ImageFormat::Png)
        .unwrap();
    let after = dls.valid().sample(item, 0).unwrap().image;
    assert_ne!(before, after);
    assert!(after.pixels().iter().all(|p| *p == 9));
    drop(dls);
    // In the next run, the old image is no longer cached.
    let images = cached().cache_status().unwrap().images;
    assert_eq!(images, 1);
    spoil(&path);
    fs::remove_file(&path).unwrap();
    // The photo is deleted, and its cached image is not used.
    let left = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    assert_eq!(left.cache_status().unwrap().images, 0);
    drop(left);

    // Another transform needs another image.
    let squish = |method| {
        let block = block().item_tfms(Resize::new(64).method(method));
        let dls = block.cache(Cache::file(file(&folder), PLENTY));
        all(dls.dataloaders(folder.path().join("images")).unwrap().valid(), 0)
    };
    assert_ne!(squish(Method::Squish), squish(Method::Crop));
    assert_eq!(squish(Method::Squish), squish(Method::Squish));
}

#[test]
fn the_file_is_never_larger_than_the_limit() {
    let folder = folder();
    let size = || fs::metadata(file(&folder)).map_or(0, |about| about.len());
    for limit in [0, 1_000, 300_000, 400_000, 200_000] {
        let dls = loaders(&folder, Some(Cache::file(file(&folder), limit)));
        all(dls.train(), 0);
        all(dls.valid(), 0);
        drop(dls);
        assert!(size() <= limit.max(1_000), "{} for a limit of {limit}", size());
    }
    assert!(size() > 100_000, "the cache is used up to its limit");
}

#[test]
fn an_incomplete_file_is_rebuilt() {
    let folder = folder();
    let cached = || loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    let dls = cached();
    let expected = all(dls.train(), 0);
    drop(dls);
    let whole = fs::read(file(&folder)).unwrap();
    let mut turned = whole.clone();
    let tail = turned.len() - 60;
    turned[tail] ^= 1;
    for text in [&whole[..whole.len() - 1], &whole[..100], b"", b"something else", &turned] {
        fs::write(file(&folder), text).unwrap();
        let dls = cached();
        assert_eq!(dls.cache_status().unwrap().images, 0);
        assert_eq!(all(dls.train(), 0), expected);
        drop(dls);
        assert!(cached().cache_status().unwrap().images > 0);
    }
    // No other file is left.
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the photos and the cache");
}

#[test]
fn concurrent_runs_share_a_file_and_merge_their_images() -> Result<()> {
    let folder = folder();
    let expected = all(loaders(&folder, Some(Cache::memory(PLENTY))).train(), 0);
    let dls: Vec<_> =
        (0..3).map(|_| loaders(&folder, Some(Cache::file(file(&folder), PLENTY)))).collect();
    let valid_only = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    thread::scope(|scope| {
        for dls in dls {
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(&all(dls.train(), 0), expected);
                }
            });
        }
    });
    let train = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    let images = train.cache_status().unwrap().images;
    assert!(images >= 12);
    all(valid_only.valid(), 0);
    drop(valid_only);
    let both = loaders(&folder, Some(Cache::file(file(&folder), PLENTY)));
    assert_eq!(both.cache_status().unwrap().images, images + both.valid().len());
    // The older handle still reads its file.
    assert_eq!(all(train.train(), 0), expected);
    Ok(())
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_a_full_disk_is_none() {
    let folder = folder();
    let nowhere = folder.path().join("nowhere/photos.cache");
    let block = block().item_tfms(Resize::new(96)).cache(Cache::file(&nowhere, PLENTY));
    let e = block.dataloaders(folder.path().join("images")).unwrap_err().to_string();
    assert!(e.contains("nowhere"), "{e}");
    // The folder is removed afterwards, so that nothing can be written.
    fs::create_dir(folder.path().join("gone")).unwrap();
    let cache = Cache::file(folder.path().join("gone/photos.cache"), PLENTY);
    let dls = loaders(&folder, Some(cache));
    fs::remove_dir(folder.path().join("gone")).unwrap();
    assert_eq!(dls.train().batches(0).filter(|b| b.is_ok()).count(), 3);
    let status = dls.cache_status().unwrap();
    assert!(status.error.is_some_and(|e| e.contains("gone")));
    let x = dls.train().one_batch().unwrap().x;
    assert_eq!(x.kind(), Kind::Float);
}

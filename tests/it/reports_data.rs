//! Public bug reports about data, reproduced with this crate: one test per report, by its number.

use crate::{
    corpus::{self, Scan, Scans, jpeg, packed, samples, smooth_rgb},
    process,
};
use finetune::{
    Error,
    data::{
        CategoryBlock, Csv, DataBlock, FileSplitter, GrandparentSplitter, ImageBlock, ImageFiles,
        LoaderOptions, MultiCategoryBlock, OnError, RegressionBlock, Splits, Splitter, TargetBlock,
        get_image_files, parent_label, read_csv, verify_images,
    },
    image::{Decode, Image, PadMode, inspect},
    transform::{ItemFn, ItemTransform, Method, Resize},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn picture(path: &Path, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x, y| image::Rgb([shade, (x * 5) as u8, (y * 3) as u8]);
    image::RgbImage::from_fn(40, 40, pixel).save(path).unwrap();
}

/// Creates four images of cats and of dogs in each of the folders.
pub(crate) fn folders(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (k, name) in names.iter().enumerate() {
        for (class, shade) in [("cat", 10), ("dog", 150)] {
            for i in 0..4u8 {
                let path = dir.path().join(name).join(class).join(format!("{i}.png"));
                picture(&path, shade + i * 20 + k as u8 * 5);
            }
        }
    }
    dir
}

fn block() -> DataBlock<CategoryBlock> {
    DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(|path: &PathBuf| parent_label(path))
        .splitter(GrandparentSplitter::new())
        .item_tfms(Resize::new(32))
        .device(finetune::tch::Device::Cpu)
        .drop_last(false)
        .bs(4)
}

/// Returns the largest difference of pixels.
fn farthest(found: &[u8], wanted: &[u8]) -> u8 {
    assert_eq!(found.len(), wanted.len());
    found.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

const SAMPLINGS: [[(u8, u8); 3]; 15] = [
    [(1, 1), (1, 1), (1, 1)],
    [(2, 1), (1, 1), (1, 1)],
    [(2, 2), (1, 1), (1, 1)],
    [(1, 2), (1, 1), (1, 1)],
    [(4, 1), (1, 1), (1, 1)],
    [(4, 2), (1, 1), (1, 1)],
    [(1, 4), (1, 1), (1, 1)],
    [(3, 1), (1, 1), (1, 1)],
    [(1, 3), (1, 1), (1, 1)],
    [(2, 2), (2, 1), (2, 1)],
    [(2, 2), (2, 1), (1, 2)],
    [(1, 1), (2, 2), (2, 2)],
    [(2, 4), (1, 1), (1, 1)],
    [(2, 2), (1, 2), (1, 2)],
    [(2, 1), (1, 1), (2, 1)],
];

#[test]
fn d1_jpeg_files_of_every_layout_are_decoded_right() {
    for size in [(65, 33), (40, 48)] {
        let wanted = smooth_rgb(size.0, size.1);
        for sampling in SAMPLINGS {
            for scans in [Scans::Interleaved, Scans::Separate] {
                for restart in [0, 3] {
                    let what = format!("{size:?} {sampling:?} {scans:?} {restart}");
                    let bytes = jpeg(size, &sampling, scans, restart);
                    let image =
                        Decode::new().read(&bytes, &what).unwrap_or_else(|e| panic!("{what}: {e}"));
                    let far = farthest(image.pixels(), &wanted);
                    assert!(far <= 8, "{what}: {far} levels off");
                }
            }
        }
    }
    // More blocks per unit than the standard allows.
    let illegal = jpeg((40, 48), &[(2, 2); 3], Scans::Interleaved, 0);
    let e = Decode::new().read(&illegal, "photo.jpg").unwrap_err();
    assert!(e.to_string().starts_with("photo.jpg cannot be decoded"), "{e}");
}

#[test]
fn d1_progressive_scan_scripts_are_decoded_right() {
    let spectral: &[Scan<'_>] = &[
        (&[0, 1, 2], 0, 0, 0, 0),
        (&[2], 1, 63, 0, 0),
        (&[0], 1, 5, 0, 0),
        (&[1], 1, 63, 0, 0),
        (&[0], 6, 63, 0, 0),
    ];
    let separate: &[Scan<'_>] = &[
        (&[1], 0, 0, 0, 0),
        (&[0], 0, 0, 0, 0),
        (&[2], 0, 0, 0, 0),
        (&[0], 1, 63, 0, 0),
        (&[1], 1, 63, 0, 0),
        (&[2], 1, 63, 0, 0),
    ];
    let successive: &[Scan<'_>] = &[
        (&[0, 1, 2], 0, 0, 0, 1),
        (&[0], 1, 5, 0, 2),
        (&[2], 1, 63, 0, 1),
        (&[1], 1, 63, 0, 1),
        (&[0], 6, 63, 0, 2),
        (&[0], 1, 63, 2, 1),
        (&[0, 1, 2], 0, 0, 1, 0),
        (&[2], 1, 63, 1, 0),
        (&[1], 1, 63, 1, 0),
        (&[0], 1, 63, 1, 0),
    ];
    for size in [(65, 33), (16, 16), (7, 50)] {
        let wanted = smooth_rgb(size.0, size.1);
        for sampling in [SAMPLINGS[0], SAMPLINGS[1], SAMPLINGS[2], SAMPLINGS[3]] {
            for script in [spectral, separate, successive] {
                for restart in [0, 2] {
                    let what = format!("{size:?} {sampling:?} {script:?} {restart}");
                    let bytes = jpeg(size, &sampling, Scans::Progressive(script), restart);
                    let image =
                        Decode::new().read(&bytes, &what).unwrap_or_else(|e| panic!("{what}: {e}"));
                    let far = farthest(image.pixels(), &wanted);
                    assert!(far <= 8, "{what}: {far} levels off");
                }
            }
        }
    }
}

#[test]
fn d2_code_of_the_caller_that_panics_is_an_error_that_names_the_item() {
    let dir = folders(&["train", "valid"]);
    for workers in [0, 2] {
        let panicking = DataBlock::rows(ImageBlock::rgb(), CategoryBlock::new())
            .get_items(get_image_files)
            .get_x(|path: &PathBuf| {
                assert!(!path.ends_with("train/dog/2.png"), "no dogs today");
                Ok(path.clone())
            })
            .get_y(parent_label)
            .splitter(GrandparentSplitter::new())
            .item_tfms(Resize::new(32))
            .num_workers(workers)
            .drop_last(false)
            .device(finetune::tch::Device::Cpu)
            .bs(4);
        let dls = panicking.dataloaders(dir.path()).unwrap();
        let e = dls.train().batches(0).find_map(Result::err).unwrap();
        assert!(matches!(e, Error::Worker { .. }), "{e}");
        let text = e.to_string();
        assert!(text.contains("no dogs today") && text.contains("item 6"), "{text}");
        // The next passes are not affected.
        assert!(dls.valid().batches(0).all(|batch| batch.is_ok()));
        let report = panicking.check(dir.path()).unwrap();
        assert_eq!(report.undecodable.len(), 1);
        assert!(report.undecodable[0].what.contains("no dogs today"), "{report}");

        let dls = block()
            .num_workers(workers)
            .item_tfms(ItemFn::new("broken", |_, _, _| panic!("a bug in a transform")))
            .dataloaders(dir.path())
            .unwrap();
        let text = dls.train().one_batch().unwrap_err().to_string();
        assert!(text.contains("a bug in a transform") && text.contains(".png"), "{text}");
        let e = dls.summary().unwrap_err();
        assert!(matches!(e, Error::Worker { .. }) && e.to_string().contains("a bug in"), "{e}");
    }
    let labels = block().get_y(|_: &PathBuf| panic!("no label today"));
    let e = labels.dataloaders(dir.path()).unwrap_err();
    assert!(matches!(e, Error::Worker { .. }), "{e}");
    assert!(e.to_string().contains("no label today") && e.to_string().contains(".png"), "{e}");
    let e = labels.check(dir.path()).unwrap_err();
    assert!(matches!(e, Error::Worker { .. }) && e.to_string().contains("no label today"), "{e}");
}

#[test]
fn d3_each_loader_lists_its_own_skipped_items_by_name() {
    let dir = folders(&["train", "valid"]);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("train/cat/1.png"), "not an image").unwrap();
    let dls = block().on_error(OnError::Skip).num_workers(2).dataloaders(dir.path()).unwrap();
    let new: Vec<PathBuf> = (0..6).map(|i| at(&format!("test/{i}.png"))).collect();
    for (i, path) in new.iter().enumerate() {
        picture(path, i as u8);
    }
    fs::write(&new[3], "damaged").unwrap();
    let test = dls.test_dl(&new).unwrap();
    let rows: i64 = test.batches(0).map(|batch| batch.unwrap().x.size()[0]).sum();
    let rows_train: i64 = dls.train().batches(0).map(|batch| batch.unwrap().x.size()[0]).sum();
    assert_eq!((rows, rows_train), (5, 7));
    let names = |skipped: Vec<finetune::data::SkippedItem>| {
        skipped.into_iter().map(|s| s.name).collect::<Vec<_>>()
    };
    assert_eq!(names(test.skipped()), [new[3].display().to_string()]);
    assert_eq!(names(dls.skipped()), [at("train/cat/1.png").display().to_string()]);
    assert!(dls.valid().skipped().is_empty());

    for path in &new {
        fs::write(path, "").unwrap();
    }
    let nothing = dls.test_dl(&new).unwrap();
    let e = nothing.batches(0).find_map(Result::err).unwrap().to_string();
    assert!(e.contains("all 6 items of the pass were skipped") && e.contains("0.png"), "{e}");
    let e = nothing.one_batch().unwrap_err();
    assert!(matches!(e, Error::EmptySplit { .. }) && e.to_string().contains("were skipped"), "{e}");
}

#[test]
fn d4_gif_screens_of_any_size_are_as_in_pillow() {
    let palette: Vec<u8> = (0..=255u8).flat_map(|i| [i, 255 - i, 7]).collect();
    let indices: Vec<u8> = (1..=12).collect();
    let color = |i: u8| [i, 255 - i, 7];
    let read = |bytes: &[u8]| {
        let image = Decode::new().read(bytes, "a.gif").unwrap();
        let facts = inspect(bytes, 1 << 20).unwrap();
        assert_eq!((facts.width, facts.height), (image.width(), image.height()));
        image
    };
    for screen in [(0, 0), (4, 0), (2, 2), (4, 3)] {
        let image = read(&corpus::gif(screen, (0, 0, 4, 3), &indices, &palette, None, true));
        let wanted: Vec<u8> = indices.iter().flat_map(|i| color(*i)).collect();
        assert_eq!((image.width(), image.height()), (4, 3), "{screen:?}");
        assert_eq!(image.pixels(), wanted, "{screen:?}");
    }
    // Pixels outside the frame have the transparent color, or the first one.
    for (transparent, blank) in [(None, 0), (Some(200), 200)] {
        let image = read(&corpus::gif((6, 4), (1, 1, 4, 3), &indices, &palette, transparent, true));
        assert_eq!(image.pixels()[..3], color(blank));
        assert_eq!(image.pixels()[(6 + 1) * 3..][..3], color(1));
    }
    for empty in ["P6\n0 0\n255\n", "P5\n0 5\n255\n"] {
        let e = Decode::new().read(empty.as_bytes(), "empty.ppm").unwrap_err();
        assert!(matches!(&e, Error::Image { item, .. } if item == "empty.ppm"), "{e}");
        assert!(e.to_string().contains("no pixels"), "{e}");
    }
}

#[test]
fn d5_a_quote_that_is_not_closed_is_an_error_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels.csv");
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        read_csv(&file)
    };
    let rows = "1.png,cat\n2.png,dog\n3.png,cat\n";
    let e = read(&format!("file,label\n0.png,\"cat\n{rows}")).unwrap_err().to_string();
    assert!(e.contains("labels.csv") && e.contains("line 2"), "{e}");
    // A later quote ends it in the middle of a text.
    let e = read("file,label\n0.png,\"cat\n1.png,dog\n2.png,\"cat\"\n").unwrap_err().to_string();
    assert!(e.contains("line 2") && e.contains("line 4"), "{e}");
    let e = Csv::new().read_as::<(String, String)>(&file).unwrap_err().to_string();
    assert!(e.contains("line 2"), "{e}");
    // Correct quotes, also over several lines, and a quote within a cell.
    let found =
        read("file,label\n\"a,b.png\",\"5\"\" disk\"\n1.png,\"two\nlines\"\n2.png,5\" disk\n")
            .unwrap();
    let label = |k: usize| found[k].get(&"label".into()).unwrap().to_owned();
    assert_eq!([label(0), label(1), label(2)], ["5\" disk", "two\nlines", "5\" disk"]);
    // A related case: names of columns.
    let found = read("file, label\n0.png, cat\n").unwrap();
    assert_eq!(found[0].get(&"label".into()).unwrap(), " cat");
    let e = read("file,label,label\n0.png,cat,x\n").unwrap()[0].get(&"label".into()).unwrap_err();
    assert!(e.to_string().contains("several"), "{e}");
    fs::write(&file, [0xff, 0xfe, b'a', 0]).unwrap();
    assert!(read_csv(&file).unwrap_err().to_string().contains("UTF-16"));
}

#[test]
fn d6_white_space_and_empty_parts_make_no_classes() {
    use finetune::data::{ColReader, Row};
    let rows = Row::table(["tags"], [["sea "], ["a;b;"], [" ; "], ["cat "], ["a ; b"]]).unwrap();
    let blank = ColReader::new("tags").labels(" ");
    assert_eq!(blank(&rows[0]).unwrap(), ["sea"]);
    let parts = ColReader::new("tags").labels(";");
    assert_eq!(parts(&rows[1]).unwrap(), ["a", "b"]);
    assert!(parts(&rows[2]).unwrap().is_empty());
    assert_eq!(parts(&rows[4]).unwrap(), ["a", "b"]);
    assert_eq!(ColReader::new("tags").text()(&rows[3]).unwrap(), "cat");
    let kept = ColReader::new("tags").trim(false);
    assert_eq!(kept.clone().text()(&rows[3]).unwrap(), "cat ");
    assert_eq!(kept.labels(";")(&rows[4]).unwrap(), ["a ", " b"]);
    // A related case: empty labels from other sources are reported.
    let dir = folders(&["train", "valid"]);
    let blank = block().get_y(|path: &PathBuf| Ok(parent_label(path)?.replace("cat", " ")));
    let dls = blank.dataloaders(dir.path()).unwrap();
    assert!(dls.notes().iter().any(|n| n.contains("empty name")), "{:?}", dls.notes());
}

#[cfg(unix)]
#[test]
fn d7_what_is_not_a_wanted_image_does_not_stop_the_listing() {
    use std::os::unix::fs::symlink;
    let dir = folders(&["train", "valid"]);
    let at = |name: &str| dir.path().join(name);
    symlink("/nowhere/logs", at("latest")).unwrap();
    symlink("/nowhere/logs", at(".hidden")).unwrap();
    symlink("self", at("train/self")).unwrap();
    symlink("..", at("train/up")).unwrap();
    assert_eq!(get_image_files(dir.path()).unwrap().len(), 16);
    let listing = ImageFiles::new().survey(dir.path()).unwrap();
    assert_eq!(listing.loops, [at("train/up")]);
    // A link with the name of an image is an item; it fails, or is skipped, by name.
    symlink("/nowhere/target.png", at("train/cat/gone.png")).unwrap();
    let listing = ImageFiles::new().survey(dir.path()).unwrap();
    assert_eq!((listing.files.len(), &listing.dangling[..]), (17, &[at("train/cat/gone.png")][..]));
    let dls = block().dataloaders(dir.path()).unwrap();
    assert!(dls.notes().iter().any(|n| n.contains("gone.png")), "{:?}", dls.notes());
    let e = dls.train().batches(0).find_map(Result::err).unwrap().to_string();
    assert!(e.contains("gone.png") && e.contains("a link to /nowhere/target.png"), "{e}");
    assert_eq!(verify_images(&listing.files), [at("train/cat/gone.png")]);
    // A related case: a requested folder that does not exist.
    let e = ImageFiles::new().folders(["train", "vaild"]).list(dir.path()).unwrap_err();
    assert!(e.to_string().contains("`vaild`"), "{e}");
}

#[test]
fn d8_a_byte_order_mark_and_any_line_ends_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("valid.txt");
    let items: Vec<PathBuf> = (0..4).map(|i| format!("photos/{i}.jpg").into()).collect();
    let split = |text: &str| {
        fs::write(&list, text).unwrap();
        FileSplitter::new(&list).split(&items)
    };
    for text in ["\u{feff}0.jpg\r\n2.jpg\r\n", "0.jpg\r2.jpg\r", "0.jpg\n\n2.jpg"] {
        assert_eq!(split(text).unwrap().valid, [0, 2], "{text:?}");
    }
    for nothing in ["", "a.jpg\nb.jpg\n"] {
        let e = split(nothing).unwrap_err();
        assert!(e.to_string().contains("valid.txt"), "{e}");
    }
    // Lines without a matching item are reported.
    let photos = folders(&["train", "valid"]);
    fs::write(&list, "0.png\nabsent.png\n").unwrap();
    let dls = block().splitter(FileSplitter::new(&list)).dataloaders(photos.path()).unwrap();
    assert!(dls.notes().iter().any(|n| n.contains("`absent.png`")), "{:?}", dls.notes());
    assert!(dls.summary().unwrap().contains("absent.png"));
}

#[test]
fn d9_folders_of_a_split_are_recognized_or_the_mistake_is_told() {
    for names in [["train", "val"], ["Train", "Valid"], ["training", "validation"]] {
        let dir = folders(&names);
        let dls = block().dataloaders(dir.path()).unwrap();
        assert_eq!((dls.train().len(), dls.valid().len()), (8, 8), "{names:?}");
        assert!(dls.notes().is_empty(), "{:?}", dls.notes());
    }
    let dir = folders(&["train", "test"]);
    let e = block().dataloaders(dir.path()).unwrap_err();
    assert!(matches!(&e, Error::EmptySplit { split: "validation", .. }), "{e}");
    for words in ["valid, val, validation", "8 in `test`", "valid_name"] {
        assert!(e.to_string().contains(words), "{words}: {e}");
    }
    let wrong = block().splitter(GrandparentSplitter::new().train_name(["trian"]));
    let e = wrong.dataloaders(dir.path()).unwrap_err();
    assert!(matches!(&e, Error::EmptySplit { split: "training", .. }), "{e}");
    assert!(e.to_string().contains("8 in `train`"), "{e}");
    let none: [&str; 0] = [];
    let explicit = GrandparentSplitter::new().valid_name(none);
    let dls = block().splitter(explicit).dataloaders(dir.path()).unwrap();
    assert!(dls.notes().iter().any(|n| n.starts_with("8 of 16 items")), "{:?}", dls.notes());
    assert!(dls.notes().iter().any(|n| n.contains("validation split has no items")));
    let report =
        block().splitter(GrandparentSplitter::new().valid_name(none)).check(dir.path()).unwrap();
    assert_eq!(report.left_out.len(), 8);
    assert!(!report.is_clean());
}

#[test]
fn d10_items_on_both_sides_are_an_error() {
    let dir = folders(&["train", "valid"]);
    let both = |items: &[PathBuf]| {
        Ok(Splits { train: (0..10).collect(), valid: (8..items.len()).collect() })
    };
    for e in [
        block().splitter(both).dataloaders(dir.path()).unwrap_err(),
        block().splitter(both).check(dir.path()).unwrap_err(),
    ] {
        assert!(matches!(&e, Error::Config { option: "splitter", .. }), "{e}");
        assert!(e.to_string().contains("2 items") && e.to_string().contains("0.png"), "{e}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn d11_folders_that_are_not_utf8_are_not_merged() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let dir = tempfile::tempdir().unwrap();
    for class in [&b"caf\xe9"[..], b"caf\xe8", b"tea"] {
        for i in 0..3 {
            let folder = dir.path().join(OsStr::from_bytes(class));
            picture(&folder.join(format!("{i}.png")), class[class.len() - 1].wrapping_add(i * 40));
        }
    }
    let files = get_image_files(dir.path()).unwrap();
    assert_eq!(files.len(), 9);
    assert!(verify_images(&files).is_empty());
    let e = parent_label(&files[0]).unwrap_err().to_string();
    assert!(e.contains("caf\\xE8") && e.contains("not UTF-8"), "{e}");
    let plain = DataBlock::blocks(ImageBlock::rgb(), RegressionBlock::one())
        .get_items(get_image_files)
        .get_y(|_: &PathBuf| Ok(1.0))
        .bs(2);
    let report = plain.check(dir.path()).unwrap();
    assert_eq!(report.not_utf8.len(), 6);
    assert!(report.not_utf8.iter().any(|f| f.name.contains("caf\\xE9")), "{report}");
    let named = finetune::data::using_name(|name: &str| Ok(name.to_owned()));
    let e = named(&PathBuf::from(OsStr::from_bytes(b"a/caf\xe9.png"))).unwrap_err();
    assert!(matches!(e, Error::Label { .. }) && e.to_string().contains("is not UTF-8"), "{e}");
}

/// Converts a sample to 8 bits as Pillow does: scaled, or the upper 8 bits of 16.
fn level(v: u16, bits: u32) -> u8 {
    match bits {
        16 => (v >> 8) as u8,
        bits => (u32::from(v) * 255 / ((1 << bits) - 1)) as u8,
    }
}

#[test]
fn d12_every_color_type_and_depth_of_tiff_and_png_is_read() {
    let size = (7, 5);
    let gray = |samples: &[u16], step: usize, bits| -> Vec<u8> {
        samples.iter().step_by(step).flat_map(|v| [level(*v, bits); 3]).collect()
    };
    let check = |what: String, bytes: &[u8], wanted: &[u8]| {
        let image = Decode::new().read(bytes, &what).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((image.width(), image.height()), size, "{what}");
        assert_eq!(image.pixels(), wanted, "{what}");
        let facts = inspect(bytes, 1 << 20).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((facts.width, facts.height), size, "{what}");
    };
    for bits in [1, 2, 4, 8] {
        let indices = samples(size.0, size.1, 1, bits);
        let rows = packed(&indices, 7, bits, true);
        let n = 1usize << bits;
        let colors: Vec<[u8; 3]> =
            (0..n).map(|i| [(i * 7) as u8, (255 - i) as u8, (i * 3) as u8]).collect();
        let wanted: Vec<u8> = indices.iter().flat_map(|i| colors[usize::from(*i)]).collect();
        check(
            format!("png palette {bits}"),
            &corpus::png(size, 3, bits as u8, &rows, &colors.concat(), true),
            &wanted,
        );
        let by_channel: Vec<u16> = (0..3)
            .flat_map(|c| colors.iter().map(move |color| u16::from(color[c]) * 257))
            .collect();
        for little in [true, false] {
            let file = corpus::tiff(size, 3, (bits as u16, 1), &rows, &by_channel, little);
            check(format!("tiff palette {bits} {little}"), &file, &wanted);
        }
    }
    for bits in [1, 2, 4, 8, 16] {
        let values = samples(size.0, size.1, 1, bits);
        let big = packed(&values, 7, bits, false);
        check(
            format!("png gray {bits}"),
            &corpus::png(size, 0, bits as u8, &big, &[], true),
            &gray(&values, 1, bits),
        );
        for little in [true, false] {
            let rows = packed(&values, 7, bits, little);
            let file = corpus::tiff(size, 1, (bits as u16, 1), &rows, &[], little);
            check(format!("tiff gray {bits} {little}"), &file, &gray(&values, 1, bits));
        }
        let inverted: Vec<u8> = gray(&values, 1, bits).iter().map(|v| 255 - v).collect();
        if bits == 1 || bits == 8 {
            let file = corpus::tiff(size, 0, (bits as u16, 1), &big, &[], true);
            check(format!("tiff white is 0, {bits}"), &file, &inverted);
        }
    }
    for bits in [8, 16] {
        let levels = |values: &[u16], n: usize| -> Vec<u8> {
            values.chunks(n).flat_map(|p| p[..3].iter().map(|v| level(*v, bits))).collect()
        };
        for (color, n) in [(2, 3), (6, 4)] {
            let values = samples(size.0, size.1, n, bits);
            let rows = packed(&values, 7 * n as usize, bits, false);
            let file = corpus::png(size, color, bits as u8, &rows, &[], true);
            check(format!("png {color} {bits}"), &file, &levels(&values, n as usize));
            let rows = packed(&values, 7 * n as usize, bits, true);
            let file = corpus::tiff(size, 2, (bits as u16, n as u16), &rows, &[], true);
            check(format!("tiff RGB of {n} {bits}"), &file, &levels(&values, n as usize));
        }
        let values = samples(size.0, size.1, 2, bits);
        let rows = packed(&values, 14, bits, false);
        check(
            format!("png gray alpha {bits}"),
            &corpus::png(size, 4, bits as u8, &rows, &[], true),
            &gray(&values, 2, bits),
        );
        let rows = packed(&values, 14, bits, true);
        let file = corpus::tiff(size, 1, (bits as u16, 2), &rows, &[], true);
        check(format!("tiff gray alpha {bits}"), &file, &gray(&values, 2, bits));
    }
    // YCbCr: gray where both chromas are 128, and red where the second is large.
    let rows: Vec<Vec<u8>> = (0..5)
        .map(|_| {
            [[100u8, 128, 128], [76, 85, 255]].iter().cycle().take(7).flatten().copied().collect()
        })
        .collect();
    let image = Decode::new().read(&corpus::tiff(size, 6, (8, 3), &rows, &[], true), "").unwrap();
    assert!(
        farthest(&image.pixels()[..6], &[100, 100, 100, 254, 0, 0]) <= 1,
        "{:?}",
        &image.pixels()[..6]
    );
}

#[test]
fn d12_every_depth_of_bmp_is_read_and_lossless_webp_is_exact() {
    let size = (7, 5);
    for bits in [1, 4, 8] {
        let indices = samples(size.0, size.1, 1, bits);
        let colors: Vec<[u8; 3]> =
            (0..1usize << bits).map(|i| [(i * 7) as u8, (255 - i) as u8, (i * 3) as u8]).collect();
        let palette: Vec<u8> = colors.iter().flat_map(|[r, g, b]| [*b, *g, *r, 0]).collect();
        let file = corpus::bmp(size, bits as u16, &packed(&indices, 7, bits, true), &palette);
        let wanted: Vec<u8> = indices.iter().flat_map(|i| colors[usize::from(*i)]).collect();
        assert_eq!(Decode::new().read(&file, "").unwrap().pixels(), wanted, "{bits}");
    }
    for n in [3, 4] {
        let values = samples(size.0, size.1, n, 8);
        let rows = packed(&values, 7 * n as usize, 8, true);
        let file = corpus::bmp(size, n as u16 * 8, &rows, &[]);
        let wanted: Vec<u8> =
            values.chunks(n as usize).flat_map(|p| [p[2], p[1], p[0]]).map(|v| v as u8).collect();
        assert_eq!(Decode::new().read(&file, "").unwrap().pixels(), wanted, "{n}");
    }
    let pixels: Vec<u8> = samples(size.0, size.1, 3, 8).into_iter().map(|v| v as u8).collect();
    let mut bytes = std::io::Cursor::new(vec![]);
    let image = image::RgbImage::from_raw(size.0, size.1, pixels.clone()).unwrap();
    image.write_to(&mut bytes, image::ImageFormat::WebP).unwrap();
    assert_eq!(Decode::new().read(&bytes.into_inner(), "").unwrap().pixels(), pixels);
}

#[test]
fn d13_a_whole_picture_without_its_end_is_read_and_told() {
    let size = (40, 48);
    let wanted = smooth_rgb(size.0, size.1);
    let whole = jpeg(size, &SAMPLINGS[2], Scans::Interleaved, 0);
    let open = &whole[..whole.len() - 2];
    let trailer = [open, &b"SEFT".repeat(500)].concat();
    for bytes in [open, &trailer, &[&whole[..], &[0; 500]].concat()] {
        let image = Decode::new().read(bytes, "a.jpg").unwrap();
        assert!(farthest(image.pixels(), &wanted) <= 8);
    }
    assert!(!inspect(open, 1 << 20).unwrap().ended);
    assert!(inspect(&whole, 1 << 20).unwrap().ended);
    // A file that is truncated within the image is an error, whatever follows.
    for keep in [whole.len() / 2, whole.len() - 8, whole.len() - 40] {
        for tail in [&b""[..], b"\xff"] {
            let cut = [&whole[..keep], tail].concat();
            let e = Decode::new().read(&cut, "a.jpg").unwrap_err();
            assert!(e.to_string().contains("truncated"), "{keep}: {e}");
        }
    }
    let rows = packed(&samples(7, 5, 3, 8), 21, 8, true);
    let (with, without) =
        (corpus::png((7, 5), 2, 8, &rows, &[], true), corpus::png((7, 5), 2, 8, &rows, &[], false));
    let pixels = |bytes: &[u8]| Decode::new().read(bytes, "a.png").map(Image::into_pixels);
    assert_eq!(pixels(&without).unwrap(), pixels(&with).unwrap());
    assert_eq!(pixels(&with[..with.len() - 20]).unwrap(), pixels(&with).unwrap());
    let e = pixels(&with[..with.len() - 40]).unwrap_err();
    assert!(matches!(&e, Error::Image { item, .. } if item == "a.png"), "{e}");
    assert!(!inspect(&without, 1 << 20).unwrap().ended);
    let palette = [7; 768];
    let gif = |end| corpus::gif((4, 3), (0, 0, 4, 3), &[1; 12], &palette, None, end);
    assert!(Decode::new().read(&gif(false), "").is_ok());
    assert!(
        inspect(&gif(true), 1 << 20).unwrap().ended
            && !inspect(&gif(false), 1 << 20).unwrap().ended
    );

    let dir = folders(&["train", "valid"]);
    fs::write(dir.path().join("train/cat/open.jpg"), open).unwrap();
    let report = block().check(dir.path()).unwrap();
    assert!(report.undecodable.is_empty(), "{report}");
    assert!(report.unended[0].name.ends_with("open.jpg"), "{report}");
}

#[test]
fn d14_files_that_cannot_be_decoded_are_called_what_they_are() {
    let read = |bytes: &[u8]| Decode::new().read(bytes, "a.jpg").unwrap_err().to_string();
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n";
    for (bytes, words) in [
        (&b""[..], "empty (0 bytes)"),
        (&[0; 1024], "1024 zero bytes"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"\n<html lang=\"en\">", "an HTML page"),
        (lfs.as_bytes(), "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a", "JPEG XL"),
        (b"<svg xmlns=\"a\"/>", "SVG"),
        (b"notes of a walk", "not of a known image format"),
    ] {
        let e = read(bytes);
        assert!(e.starts_with("a.jpg cannot be decoded") && e.contains(words), "{words}: {e}");
    }
    let dir = folders(&["train", "valid"]);
    for name in ["train/cat/k.heic", "train/cat/l.avif", "train/dog/m.AVIF"] {
        fs::write(dir.path().join(name), b"\0\0\0\x18ftypheic").unwrap();
    }
    let dls = block().dataloaders(dir.path()).unwrap();
    assert_eq!(dls.train().len(), 8);
    let note = &dls.notes()[0];
    assert!(note.contains("2 .avif, 1 .heic"), "{note}");
    assert!(block().check(dir.path()).unwrap().to_string().contains("2 .avif"));
    // Only such files.
    let e = get_image_files(tempdir_with("a.avif").path()).unwrap_err().to_string();
    assert!(e.contains("1 .avif"), "{e}");
}

fn tempdir_with(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), "x").unwrap();
    dir
}

#[test]
fn d16_the_advice_for_an_unknown_label_is_true() {
    let encode = |block: CategoryBlock| {
        let mut block = block;
        block.setup(&mut ["cat", "dog"].map(String::from).iter()).unwrap();
        block.encode(&"fox".to_owned())
    };
    let plain = encode(CategoryBlock::new()).unwrap_err().to_string();
    assert!(plain.contains("training labels") && plain.contains("add_na"), "{plain}");
    let given = encode(CategoryBlock::new().vocab(["cat", "dog"])).unwrap_err().to_string();
    assert!(given.contains("the given `vocab`") && !given.contains("training"), "{given}");
    assert!(encode(CategoryBlock::new().add_na(true)).is_ok());
    let multi = |block: MultiCategoryBlock| {
        let mut block = block;
        let labels = [vec!["cat".to_owned(), "dog".to_owned()]];
        block.setup(&mut labels.iter()).unwrap();
        block.encode(&vec!["dog".to_owned(), "fox".to_owned(), "emu".to_owned()])
    };
    let given = multi(MultiCategoryBlock::new().vocab(["dog"])).unwrap_err().to_string();
    assert!(given.contains("the given `vocab`") && !given.contains("add_na"), "{given}");
    for add_na in [false, true] {
        let e = multi(MultiCategoryBlock::new().add_na(add_na)).unwrap_err().to_string();
        assert!(e.contains("`fox`, `emu`") && !e.contains("add_na"), "{e}");
    }
    // Related cases: options without effect, and duplicate names.
    let labels = ["cat", "dog"].map(String::from);
    let strict = CategoryBlock::new().strict(true).setup(&mut labels.iter()).unwrap_err();
    assert!(matches!(strict, Error::Config { option: "strict", .. }), "{strict}");
    let twice = CategoryBlock::new().vocab(["cat", "dog", "cat"]).setup(&mut labels.iter());
    assert!(twice.unwrap_err().to_string().contains("twice"));
    let unused = Resize::new(8).pad_mode(PadMode::Border);
    let unused = ItemTransform::check(&unused).unwrap_err();
    assert!(matches!(unused, Error::Config { option: "Resize::pad_mode", .. }), "{unused}");
    ItemTransform::check(&Resize::new(8).pad_mode(PadMode::Border).method(Method::Pad)).unwrap();
}

#[test]
fn d18_padding_a_narrow_image_takes_no_memory_for_the_padding() {
    // In a separate process, since the memory of other tests would count.
    const ALONE: &str = "MEASURED_ALONE";
    if env::var_os(ALONE).is_none() {
        let name = "reports_data::d18_padding_a_narrow_image_takes_no_memory_for_the_padding";
        let (passed, said) = process::run(process::test(name).env(ALONE, "1"));
        assert!(passed, "{said}");
        return;
    }
    let image = Image::new(100, 6000, 3, vec![100; 100 * 6000 * 3]).unwrap();
    let before = peak();
    let small = Resize::new(64).method(Method::Pad).at(&image, (0.5, 0.5)).unwrap();
    assert_eq!((small.width(), small.height()), (64, 64));
    assert!(small.pixels().iter().all(|v| *v == 100));
    if let (Some(before), Some(after)) = (before, peak()) {
        // The padded square would take 108 MB.
        assert!(after - before < 50 << 20, "{} MiB more", (after - before) >> 20);
    }
}

/// Returns the peak memory of this process in bytes, if the system reports it.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[test]
fn check_finds_the_problems_of_the_reports() {
    let dir = folders(&["train", "valid"]);
    let at = |name: &str| dir.path().join(name);
    for i in 0..2 {
        picture(&at(&format!("train/Cat/{i}.png")), 60 + i);
    }
    picture(&at("train/emu/0.png"), 90);
    // A training photo in another size and quality in validation.
    let photo = Image::new(64, 64, 3, smooth_rgb(64, 64)).unwrap();
    let save = |image: &Image, path: &Path| {
        let pixels = image.pixels().to_vec();
        image::RgbImage::from_raw(image.width(), image.height(), pixels)
            .unwrap()
            .save(path)
            .unwrap();
    };
    save(&photo, &at("train/cat/photo.png"));
    let smaller = photo.resize(48, 48, finetune::image::Filter::Bilinear).unwrap();
    save(&smaller, &at("valid/cat/again.jpg"));
    let report = block().check(dir.path()).unwrap();
    assert_eq!(report.similar_labels, [["Cat", "cat"]]);
    let missing: Vec<_> = report.missing_classes().map(|c| c.label.as_str()).collect();
    assert_eq!(missing, ["Cat", "emu"]);
    let rare: Vec<_> = report.rare_classes().map(|c| c.label.as_str()).collect();
    assert_eq!(rare, ["Cat", "dog", "emu"]);
    let names: Vec<_> = report.near_duplicates.iter().map(|d| &d.names).collect();
    assert!(
        names.iter().any(|[a, b]| a.ends_with("photo.png") && b.ends_with("again.jpg")),
        "{names:?}"
    );
    assert!(report.near_duplicates[0].pictures.is_some());
    assert!(!report.is_clean());
    let text = report.to_string();
    for words in
        ["`Cat`, `cat`", "`emu` has no validation items", "look alike", "few training items"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    #[cfg(feature = "show")]
    assert!(report.show_near_duplicates().unwrap().png().is_ok());
}

#[test]
fn derived_loaders_have_separate_lists() {
    let dir = folders(&["train", "valid"]);
    fs::write(dir.path().join("train/cat/1.png"), "").unwrap();
    let dls = block().on_error(OnError::Skip).num_workers(0).dataloaders(dir.path()).unwrap();
    let plain = dls.train().with(LoaderOptions::new().shuffle(false)).unwrap();
    plain.batches(0).for_each(|batch| drop(batch.unwrap()));
    assert_eq!((plain.skipped().len(), dls.skipped().len()), (1, 0));
}

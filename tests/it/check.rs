//! The findings of `check` and `verify_images` in a folder with problems.

use finetune::data::{
    CategoryBlock, DataBlock, FuncSplitter, ImageBlock, get_image_files, verify_images,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn picture(path: &Path, side: u32, shade: u8) {
    let pixel = |x, y| image::Rgb([shade, (x * 5) as u8, (y * 3) as u8]);
    image::RgbImage::from_fn(side, side, pixel).save(path).unwrap();
}

/// Creates two classes of two images in each split, and one file for each kind of problem.
fn troubles() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for split in ["train", "valid"] {
        for (class, shade) in [("cat", 10), ("dog", 100)] {
            fs::create_dir_all(at(&format!("{split}/{class}"))).unwrap();
            for i in 0..2 {
                let shade = shade + i * 7 + u8::from(split == "train");
                picture(&at(&format!("{split}/{class}/{i}.png")), 40, shade);
            }
        }
    }
    fs::write(at("train/cat/broken.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0]).unwrap();
    fs::write(at("train/cat/empty.jpg"), "").unwrap();
    fs::copy(at("train/dog/0.png"), at("train/dog/copy.jpg")).unwrap();
    fs::copy(at("train/dog/1.png"), at("valid/cat/copy.png")).unwrap();
    picture(&at("valid/cat/tiny.png"), 20, 3);
    for (from, to) in [
        ("cmyk.jpg", "train/cat/cmyk.jpg"),
        ("g16.png", "train/cat/deep.png"),
        ("moves.gif", "train/cat/moves.gif"),
        ("turned.jpg", "train/cat/turned.jpg"),
    ] {
        fs::copy(Path::new("tests/pillow").join(from), at(to)).unwrap();
    }
    dir
}

fn block() -> DataBlock<CategoryBlock> {
    DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(FuncSplitter::new(|path: &PathBuf| path.to_string_lossy().contains("valid")))
        .get_y(|path: &PathBuf| finetune::data::parent_label(path))
        .bs(2)
}

fn names<'a>(found: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let name = |n: &String| Path::new(n).file_name().unwrap().to_str().unwrap().to_owned();
    found.into_iter().map(name).collect()
}

#[test]
fn every_problem_is_reported_by_path() {
    let dir = troubles();
    let before: Vec<_> = get_image_files(dir.path()).unwrap();
    let report = block().check(dir.path()).unwrap();
    assert_eq!((report.train, report.valid), (11, 6));
    let of = |list: &[finetune::data::Finding]| names(list.iter().map(|f| &f.name));
    assert_eq!(of(&report.undecodable), ["broken.jpg", "empty.jpg"]);
    assert_eq!(of(&report.misnamed), ["copy.jpg"]);
    assert_eq!(report.misnamed[0].what, "the content is png, the extension says jpeg");
    assert_eq!(of(&report.cmyk), ["cmyk.jpg"]);
    assert_eq!(of(&report.deep), ["deep.png"]);
    assert_eq!(of(&report.animated), ["moves.gif"]);
    assert_eq!(of(&report.turned), ["turned.jpg"]);
    assert_eq!(of(&report.tiny), ["cmyk.jpg", "deep.png", "turned.jpg", "tiny.png"]);
    assert!(report.huge.is_empty());
    let groups: Vec<_> =
        report.duplicates.iter().map(|d| (names(&d.names), d.across, d.contradictory)).collect();
    let group = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
    assert_eq!(
        groups,
        [(group("0.png", "copy.jpg"), false, false), (group("1.png", "copy.png"), true, true),]
    );
    let classes: Vec<_> =
        report.classes.iter().map(|c| (c.label.as_str(), c.train, c.valid)).collect();
    assert_eq!(classes, [("cat", 8, 4), ("dog", 3, 2)]);
    assert!(!report.is_clean());
    assert_eq!(get_image_files(dir.path()).unwrap(), before, "nothing is written");

    let text = report.to_string();
    for words in
        ["2 cannot be decoded", "broken.jpg", "1 across", "different labels", "dog: 3 and 2"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_limit_of_the_block_is_used_and_a_valid_set_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    for (i, folder) in ["train/cat", "train/dog", "valid/cat", "valid/dog"].iter().enumerate() {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        for k in 0..2 {
            picture(&dir.path().join(folder).join(format!("{k}.png")), 40, (i * 50 + k) as u8);
        }
    }
    assert!(block().check(dir.path()).unwrap().is_clean());
    let strict = DataBlock::blocks(ImageBlock::rgb().max_pixels(1599), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(|path: &PathBuf| finetune::data::parent_label(path))
        .bs(1);
    assert_eq!(strict.check(dir.path()).unwrap().undecodable.len(), 8);
}

#[test]
fn verify_images_returns_files_that_cannot_be_decoded() {
    let dir = troubles();
    let mut files = get_image_files(dir.path()).unwrap();
    files.push(dir.path().join("absent.png"));
    let failed = verify_images(&files);
    let failed: Vec<_> = failed.iter().map(|p| p.strip_prefix(dir.path()).unwrap()).collect();
    let wanted = ["train/cat/broken.jpg", "train/cat/empty.jpg", "absent.png"];
    assert_eq!(failed, wanted.map(Path::new));
}

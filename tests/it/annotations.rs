//! Annotation files of COCO, Pascal VOC and YOLO.

use super::spatial::{square, text_of};
use finetune::{
    Result,
    data::{
        Annotated, BBoxBlock, BBoxLblBlock, DataBlock, ImageBlock, IndexSplitter, get_annotations,
        get_voc_annotations, get_yolo_annotations,
    },
};
use std::{collections::BTreeMap, fs, path::PathBuf};

#[test]
fn annotations_of_voc_and_yolo() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (image, _) = square(40, 1, 1, 3);
    image::save_buffer(path("a.png"), image.pixels(), 40, 40, image::ExtendedColorType::Rgb8)
        .unwrap();
    // A part of an object has a name and a box of its own, which are not those of an object.
    let object = "<object><part><name>head</name><bndbox><xmin>4</xmin><ymin>5</ymin>\
                  <xmax>9</xmax><ymax>8</ymax></bndbox></part><name>cat</name><bndbox>\
                  <xmin>3</xmin><ymin>5</ymin><xmax>12</xmax><ymax>20</ymax></bndbox></object>";
    let voc = format!("<annotation><filename>a.png</filename>{object}</annotation>");
    fs::write(path("a.xml"), &voc).unwrap();
    let found = get_voc_annotations(folder.path(), folder.path())?;
    let Annotated { file, boxes, labels, .. } = &found[0];
    assert_eq!((file, labels), (&path("a.png"), &vec!["cat".to_owned()]));
    assert_eq!((found.len(), boxes), (1, &vec![[2.0, 4.0, 12.0, 20.0]]));
    // Programs for macOS add such files to archives.
    fs::write(path("._a.xml"), b"\x00\x05\x16\x07").unwrap();
    assert_eq!(get_voc_annotations(folder.path(), folder.path())?.len(), 1);
    fs::write(path("b.xml"), &voc).unwrap();
    let twice = text_of(get_voc_annotations(folder.path(), folder.path()));
    assert!(["a.xml", "b.xml", "a.png"].iter().all(|name| twice.contains(name)), "{twice}");
    fs::remove_file(path("b.xml")).unwrap();
    // With the byte order mark and the line end of programs for Windows.
    fs::write(path("a.txt"), "\u{feff}1 0.5 0.25 0.2 0.1\r\n").unwrap();
    let found = get_yolo_annotations(folder.path(), folder.path(), &["dog", "cat"])?;
    assert_eq!(found[0].labels, ["cat"]);
    let wanted = [16.0, 8.0, 24.0, 12.0];
    assert!(found[0].boxes[0].iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4));
    fs::write(path("a.txt"), "7 0.5 0.25 0.2 0.1\n").unwrap();
    let bad = text_of(get_yolo_annotations(folder.path(), folder.path(), &["dog", "cat"]));
    assert!(bad.contains("a.txt") && bad.contains("line 1"), "{bad}");
    fs::write(path("a.xml"), voc.replace("<ymax>20</ymax>", "")).unwrap();
    let bad = text_of(get_voc_annotations(folder.path(), folder.path()));
    assert!(bad.contains("a.xml") && bad.contains("ymax"), "{bad}");
    Ok(())
}

/// Each image has its own text file, also if its name has several dots or it is in a subfolder.
#[test]
fn yolo_files_have_the_paths_of_their_images() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (images, labels) = (folder.path().join("images"), folder.path().join("labels"));
    let (image, _) = square(10, 1, 1, 3);
    let add = |name: &str, text: Option<(&str, &str)>| {
        let file = images.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::save_buffer(&file, image.pixels(), 10, 10, image::ExtendedColorType::Rgb8).unwrap();
        if let Some((name, text)) = text {
            let file = labels.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        file
    };
    let files = [
        ("cat_jpg.rf.0a1b.jpg", "cat_jpg.rf.0a1b.txt", "0 0.5 0.5 0.2 0.2", "dog"),
        ("frame.0001.png", "frame.0001.txt", "1 0.5 0.5 0.2 0.2", "cat"),
        ("frame.0002.png", "frame.0002.txt", "2 0.5 0.5 0.2 0.2", "owl"),
        ("train/1.png", "train/1.txt", "0 0.5 0.5 0.4 0.4", "dog"),
        ("val/1.png", "val/1.txt", "1 0.5 0.5 0.4 0.4", "cat"),
    ];
    let files: BTreeMap<PathBuf, &str> =
        files.map(|(name, text, line, class)| (add(name, Some((text, line))), class)).into();
    let read = || get_yolo_annotations(&images, &labels, &["dog", "cat", "owl"]);
    let found = read()?;
    assert_eq!(found.len(), files.len());
    for item in &found {
        assert_eq!(item.labels, [files[&item.file]], "{}", item.file.display());
    }
    add("val/1.bmp", None);
    let twice = text_of(read());
    assert!(twice.contains("val/1.bmp") && twice.contains("val/1.png"), "{twice}");
    assert!(twice.contains("1.txt"), "{twice}");
    Ok(())
}

/// Errors of annotation files name the file and the problem.
#[test]
fn errors_of_annotations_name_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (image, _) = square(40, 1, 1, 3);
    image::save_buffer(path("a.png"), image.pixels(), 40, 40, image::ExtendedColorType::Rgb8)
        .unwrap();
    let coco = |image: i64, category: i64, bbox: &str| {
        let text = format!(
            r#"{{"images": [{{"id": 1, "file_name": "a.png"}}],
                "categories": [{{"id": 5, "name": "cat"}}],
                "annotations": [{{"image_id": {image}, "category_id": {category}, "bbox": {bbox},
                    "iscrowd": 1, "segmentation": {{"counts": [9, 3, 4], "size": [4, 4]}}}}]}}"#
        );
        fs::write(path("a.json"), format!("\u{feff}{text}")).unwrap();
        get_annotations(path("a.json"), &format!("{}/", folder.path().display()))
    };
    let found = coco(1, 5, "[2, 3, 10, 20]")?;
    assert_eq!((&found[0].file, found[0].boxes[0]), (&path("a.png"), [2.0, 3.0, 12.0, 23.0]));
    for (image, category, bbox, what) in [
        (2, 5, "[2, 3, 10, 20]", "image 2"),
        (1, 6, "[2, 3, 10, 20]", "category 6"),
        (1, 5, "[2, 3, -10, 20]", "inverted"),
        (1, 5, "[2, 3, 10]", "not a COCO file"),
        (1, 5, "[2, 3, NaN, 20]", "not a COCO file"),
        (1, 5, "[2, 3, 1e300, 20]", "not finite"),
    ] {
        let bad = text_of(coco(image, category, bbox));
        assert!(bad.contains("a.json") && bad.contains(what), "{bad}");
    }
    for (images, categories, what) in [
        (r#"{"id": 1, "file_name": "b.png"}"#, "", ["`images`", "`a.png` and `b.png`"]),
        (r#"{"id": 7, "file_name": "a.png"}"#, "", ["images 1 and 7", "`a.png`"]),
        ("", r#"{"id": 5, "name": "dog"}"#, ["`categories`", "`cat` and `dog`"]),
    ] {
        let list = |first: &str, more: &str| match more {
            "" => format!("[{first}]"),
            more => format!("[{first}, {more}]"),
        };
        let text = format!(
            r#"{{"images": {}, "categories": {}, "annotations": []}}"#,
            list(r#"{"id": 1, "file_name": "a.png"}"#, images),
            list(r#"{"id": 5, "name": "cat"}"#, categories)
        );
        fs::write(path("a.json"), text).unwrap();
        let bad = text_of(get_annotations(path("a.json"), ""));
        assert!(bad.contains("a.json") && what.iter().all(|w| bad.contains(w)), "{bad}");
    }
    // A box without a width is an error of the block, which names the image.
    let items = coco(1, 5, "[2, 3, 0, 20]")?;
    let empty = DataBlock::rows(ImageBlock::rgb(), (BBoxBlock::new(), BBoxLblBlock::new()))
        .get_x(|item: &Annotated| Ok(item.file.clone()))
        .get_y(|item| Ok((item.boxes.clone(), item.labels.clone())))
        .splitter(IndexSplitter::new([]))
        .bs(1)
        .dataloaders_from(items);
    let empty = text_of(empty);
    assert!(empty.contains("a.png") && empty.contains("is empty"), "{empty}");

    let voc = |object: &str| {
        let text = format!("<annotation><filename>a.png</filename>{object}</annotation>");
        fs::write(path("a.xml"), text).unwrap();
        text_of(get_voc_annotations(folder.path(), folder.path()))
    };
    let bounds = |xmin: &str| {
        format!(
            "<object><name>cat</name><bndbox><xmin>{xmin}</xmin><ymin>5</ymin><xmax>12</xmax>\
             <ymax>20</ymax></bndbox></object>"
        )
    };
    for (object, what) in [
        (bounds("30"), "inverted"),
        (bounds("NaN"), "not finite"),
        (bounds("left"), "`xmin` is `left`"),
        ("<object><name>cat</name></object>".to_owned(), "no `bndbox`"),
        ("<object>".to_owned(), "not XML"),
    ] {
        let bad = voc(&object);
        assert!(bad.contains("a.xml") && bad.contains(what), "{bad}");
    }

    let yolo = || text_of(get_yolo_annotations(folder.path(), folder.path(), &["cat"]));
    let missing = yolo();
    assert!(missing.contains("a.txt"), "{missing}");
    for (line, what) in [
        ("0 0.5 0.25 -0.2 0.1", "inverted"),
        ("0 0.5 NaN 0.2 0.1", "not finite"),
        ("0 0.5 0.25 0.2", "four numbers"),
        ("cat 0.5 0.25 0.2 0.1", "below 1"),
    ] {
        fs::write(path("a.txt"), format!("0 0.5 0.5 0.1 0.1\n{line}\n")).unwrap();
        let bad = yolo();
        assert!(bad.contains("a.txt") && bad.contains("line 2") && bad.contains(what), "{bad}");
    }
    Ok(())
}

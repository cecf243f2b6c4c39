//! Masks, points and boxes as users use them: blocks, loaders, learners, predictions, figures, and the
//! errors of invalid input.

use finetune::{
    Error, Result,
    data::{
        Annotated, BBoxBlock, BBoxLblBlock, DataBlock, DataLoaders, ImageBlock, ImageSource,
        IndexSplitter, MaskBlock, PointBlock, TargetBlock as _, get_annotations,
        get_voc_annotations, get_yolo_annotations,
    },
    format::{read_safetensors, write_safetensors},
    image::Image,
    interpret::SegmentationInterpretation,
    learner::{Learner, Predictions, Predictor, Tiles, unet_learner, vision_learner},
    loss::{Combined, CrossEntropy, Dice, Loss, PointMse},
    metric::{
        ForegroundAccuracy, Metric, dice_multi, foreground_acc, iou_of_class, point_distance,
    },
    model::{ArchSpec, HeadOptions, Model, UnetOptions, by_name, resnet18},
    sample::{Batch, Point, Sample, Split, Target, Task},
    seed::{Seed, Stream},
    transform::{self, BatchTransform, Method, Resize, aug_transforms},
};
use ndarray::Array2;
use std::{collections::BTreeMap, fs, io::Cursor, path::PathBuf, sync::Arc};
use tch::{Device, Kind, Tensor, nn};

/// Returns an image of `side` pixels with a bright square and the mask of that square.
fn square(side: u32, left: u32, top: u32, wide: u32) -> (Image, Image) {
    let inside =
        |x: u32, y: u32| (left..left + wide).contains(&x) && (top..top + wide).contains(&y);
    let places = || (0..side).flat_map(move |y| (0..side).map(move |x| (x, y)));
    let pixels = places().flat_map(|(x, y)| {
        if inside(x, y) { [230, 200, 40] } else { [(x * 3) as u8, 60, (y * 3) as u8] }
    });
    let codes = places().map(|(x, y)| u8::from(inside(x, y)));
    let image = Image::new(side, side, 3, pixels.collect()).unwrap();
    (image, Image::new(side, side, 1, codes.collect()).unwrap())
}

/// Returns twelve squares at different positions.
fn squares() -> Vec<(Image, Image)> {
    (0..12).map(|i| square(48, 4 + i * 2, 30 - i * 2, 12 + i % 4)).collect()
}

/// Returns a block for the squares without transforms.
fn mask_block() -> DataBlock<MaskBlock, usize> {
    let all = Arc::new(squares());
    let (images, masks) = (all.clone(), all);
    DataBlock::rows(ImageBlock::rgb(), MaskBlock::new(["ground", "square"]))
        .get_x(move |&i: &usize| Ok(images[i].0.clone()))
        .get_y(move |&i| Ok(masks[i].1.clone().into()))
        .splitter(IndexSplitter::new([2, 5, 8, 11]))
        .bs(4)
        .num_workers(0)
        .device(Device::Cpu)
}

fn mask_loaders(augment: bool, workers: usize) -> Result<DataLoaders> {
    let block = mask_block().item_tfms(Resize::new(40)).num_workers(workers);
    let block = if augment { block.batch_tfms(aug_transforms().size(32)) } else { block };
    block.dataloaders_from((0..12).collect())
}

/// The mask marks the bright pixels of an image after any transform.
#[test]
fn a_mask_moves_with_its_image() -> Result<()> {
    let dls = mask_loaders(true, 2)?;
    let again = mask_loaders(true, 0)?;
    for (batch, other) in dls.train().batches(3).zip(again.train().batches(3)) {
        let (batch, other) = (batch?, other?);
        let y = batch.y.unwrap();
        assert_eq!((y.size(), y.kind()), (vec![4, 32, 32], Kind::Int64));
        assert_eq!(y, other.y.unwrap(), "the same for any number of workers");
        // Green is 200 of 255 in the square and 60 elsewhere; lighting keeps this order.
        let bright = batch.x.select(1, 1).gt(0.5);
        let same = bright.eq_tensor(&y.gt(0)).to_kind(Kind::Float).mean(Kind::Float);
        let same = same.double_value(&[]);
        assert!(same > 0.93, "{same} of the pixels agree");
    }
    Ok(())
}

/// Both executors move masks in the same way.
#[test]
fn masks_are_the_same_on_workers_and_on_a_device() -> Result<()> {
    let (image, mask) = square(48, 9, 15, 20);
    let tfms: Vec<Arc<dyn BatchTransform>> =
        vec![Arc::new(aug_transforms().size(40).min_scale(0.6).flip_vert(true))];
    let mut rng = Seed(3).rng(Stream::Batch { pass: 0, index: 0 });
    let size = (image.width(), image.height());
    let plan = transform::plan(&tfms, 6, size, 3, Split::Train, &mut rng)?;
    let masks = plan.for_masks();
    let bytes = Tensor::from_slice(mask.pixels()).view([1, 48, 48]).repeat([6, 1, 1]);
    let by_device = masks.execute_tensor(&bytes)?;
    for i in 0..6 {
        let by_worker = masks.execute(i as usize, &mask)?;
        let by_worker = Tensor::from_slice(by_worker.pixels()).view([40, 40]);
        let differ = by_worker.ne_tensor(&by_device.get(i)).to_kind(Kind::Float);
        assert!(differ.mean(Kind::Float).double_value(&[]) < 0.005);
    }
    Ok(())
}

fn text_of<T>(done: Result<T>) -> String {
    done.err().expect("an error").to_string()
}

#[test]
fn errors_of_masks_name_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (image, _) = square(8, 1, 1, 3);
    let save = |name: &str, image: &Image| {
        let kind = match image.channels() {
            1 => image::ExtendedColorType::L8,
            _ => image::ExtendedColorType::Rgb8,
        };
        let (w, h) = (image.width(), image.height());
        image::save_buffer(path(name), image.pixels(), w, h, kind).unwrap();
    };
    save("photo.png", &image);
    save("small.png", &Image::new(4, 4, 1, vec![0; 16])?);
    save("codes.png", &Image::new(8, 8, 1, (0..64).collect())?);
    save("colors.png", &image);
    let load = |mask: PathBuf, block: MaskBlock| {
        let dls = DataBlock::blocks(ImageBlock::rgb(), block)
            .get_y(move |_: &PathBuf| Ok(mask.clone().into()))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .num_workers(0)
            .device(Device::Cpu)
            .dataloaders_from(vec![path("photo.png")])?;
        dls.train().one_batch()
    };
    let block = || MaskBlock::new(["a", "b"]);
    let size = text_of(load(path("small.png"), block()));
    assert!(size.contains("photo.png") && size.contains("4x4") && size.contains("8x8"), "{size}");
    let codes = text_of(load(path("codes.png"), block()));
    assert!(codes.contains("photo.png") && codes.contains("there are 2 codes"), "{codes}");
    let colors = text_of(load(path("colors.png"), block()));
    assert!(colors.contains("photo.png") && colors.contains("`colors`"), "{colors}");
    let missing = text_of(load(path("none.png"), block()));
    assert!(missing.contains("none.png"), "{missing}");
    // Called without a loader, the block names the file once.
    let direct = text_of(block().encode(&path("codes.png").into()));
    assert_eq!(direct.matches("codes.png").count(), 1, "{direct}");
    let memory = text_of(block().encode(&Image::new(1, 1, 1, vec![2])?.into()));
    assert!(memory.contains("for the mask: ") && memory.contains("is 2"), "{memory}");
    let distinct = text_of(load(path("colors.png"), block().colors([[0, 0, 0]; 2])));
    assert!(distinct.contains("colors"), "{distinct}");
    Ok(())
}

#[test]
fn a_check_finds_masks_that_do_not_fit() -> Result<()> {
    let (image, mask) = square(40, 1, 1, 3);
    let masks = [mask, Image::new(40, 20, 1, vec![0; 800])?, Image::new(40, 40, 1, vec![7; 1600])?];
    let dls = DataBlock::rows(ImageBlock::rgb(), MaskBlock::new(["ground", "square"]))
        .get_x(move |_: &usize| Ok(image.clone()))
        .get_y(move |&i| Ok(masks[i].clone().into()))
        .splitter(IndexSplitter::new([2]))
        .bs(1)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from(vec![0, 1, 2])?;
    let found = dls.check()?.undecodable;
    let items: Vec<usize> = found.iter().map(|f| f.item).collect();
    assert_eq!(items, [1, 2]);
    assert!(found[0].what.contains("40x20") && found[1].what.contains("is 7"), "{found:?}");
    Ok(())
}

/// Returns the codes of a mask file of 4x2 pixels, from a loader.
fn loaded_codes(file: PathBuf) -> Result<Vec<i64>> {
    let image = Image::new(4, 2, 3, vec![90; 24])?;
    let dls = DataBlock::rows(ImageBlock::rgb(), MaskBlock::new((0..256).map(|i| i.to_string())))
        .get_x(move |_: &usize| Ok(image.clone()))
        .get_y(move |_| Ok(file.clone().into()))
        .splitter(IndexSplitter::new([]))
        .bs(1)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from(vec![0])?;
    Ok(Vec::try_from(&dls.train().one_batch()?.y.unwrap().reshape([-1])).unwrap())
}

#[test]
fn gray_masks_keep_their_numbers_in_every_format() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).unwrap();
        loaded_codes(folder.path().join(name))
    };
    let encoded = |codes: [u16; 8], format: image::ImageFormat| {
        let mask = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(4, 2, codes.to_vec());
        let mut bytes = Cursor::new(vec![]);
        mask.unwrap().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let pgm = |largest: u16, codes: [u16; 8]| {
        let mut bytes = format!("P5\n4 2\n{largest}\n").into_bytes();
        for code in codes {
            let [high, low] = code.to_be_bytes();
            bytes.extend(if largest > 255 { vec![high, low] } else { vec![low] });
        }
        bytes
    };
    let codes = [0_u16, 1, 2, 20, 127, 128, 254, 255];
    let wanted = codes.map(i64::from);
    assert_eq!(write("deep.png", &encoded(codes, image::ImageFormat::Png))?, wanted);
    assert_eq!(write("deep.tif", &encoded(codes, image::ImageFormat::Tiff))?, wanted);
    for largest in [255, 256, 300, 1000, 40_000, 65_535] {
        assert_eq!(write("deep.pgm", &pgm(largest, codes))?, wanted, "{largest}");
    }
    for largest in 7..255 {
        let few = [0_u16, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(write("few.pgm", &pgm(largest, few))?, few.map(i64::from), "{largest}");
    }
    assert_eq!(write("text.pgm", b"P2 4 2 20 0 1 2 3 4 5 19 20")?, [0, 1, 2, 3, 4, 5, 19, 20]);
    let pam = |largest: u16, kind: &str, depth: u8, data: &[u8]| {
        let size = "WIDTH 4\nHEIGHT 2";
        let head = format!("P7\n{size}\nDEPTH {depth}\nMAXVAL {largest}\n{kind}ENDHDR\n");
        [head.as_bytes(), data].concat()
    };
    let gray = [0_u8, 1, 2, 3, 4, 5, 19, 20];
    let both = gray.map(|v| [v, 20]).concat();
    let wide = gray.map(|v| [0, v]).concat();
    for (largest, kind, depth, data) in [
        (20, "TUPLTYPE GRAYSCALE\n", 1, &gray[..]),
        (20, "", 1, &gray[..]),
        (20, "TUPLTYPE GRAYSCALE_ALPHA\n", 2, &both[..]),
        (700, "TUPLTYPE GRAYSCALE\n", 1, &wide[..]),
        (700, "", 1, &wide[..]),
    ] {
        let found = write("gray.pam", &pam(largest, kind, depth, data))?;
        assert_eq!(found, gray.map(i64::from), "{largest} {kind}");
    }
    // In a bitmap, 1 is black.
    assert_eq!(write("bits.pbm", b"P1 4 2 1 0 1 0 0 0 1 1")?, [0, 1, 0, 1, 1, 1, 0, 0]);

    let beyond = [0, 1, 2, 3, 4, 5, 6, 256];
    for (name, bytes) in [
        ("beyond.png", encoded(beyond, image::ImageFormat::Png)),
        ("beyond.tif", encoded(beyond, image::ImageFormat::Tiff)),
        ("beyond.pgm", pgm(65_535, beyond)),
    ] {
        let e = text_of(write(name, &bytes));
        assert!(e.contains(name) && e.contains("16-bit value 256 is not a code"), "{e}");
    }
    for (name, bytes) in [
        ("above.pgm", pgm(7, [0, 1, 2, 3, 4, 5, 6, 8])),
        ("above.txt", b"P2 4 2 20 0 1 2 3 4 5 19 21".to_vec()),
        ("above.pam", pam(19, "TUPLTYPE GRAYSCALE\n", 1, &gray)),
    ] {
        let e = text_of(write(name, &bytes));
        assert!(e.contains(name) && e.contains("the maximum of the file"), "{e}");
    }
    let gif = text_of(loaded_codes("tests/pillow/pt.gif".into()));
    assert!(gif.contains("pt.gif") && gif.contains("only from PNG files"), "{gif}");
    Ok(())
}

/// Programs that write palettes choose their order, so the index of a color says nothing about its code.
#[test]
fn the_colors_of_a_palette_are_the_colors_of_the_codes() -> Result<()> {
    let file = ImageSource::from(PathBuf::from("tests/pillow/pt.png"));
    let names = ["blue", "red", "green"];
    let colors = [[0, 0, 255], [255, 0, 0], [0, 255, 0]];
    let codes = |block: MaskBlock| -> Result<Vec<u8>> {
        let Target::Mask(mask) = block.encode(&file)? else { panic!("not a mask") };
        Ok(mask.into_pixels())
    };
    assert_eq!(codes(MaskBlock::new(names).colors(colors))?, [1, 2, 0]);
    assert_eq!(codes(MaskBlock::new(names))?, [0, 1, 2]);
    let other = text_of(codes(MaskBlock::new(names).colors([[0, 0, 255], [9, 9, 9], [0, 255, 0]])));
    assert!(other.contains("pt.png") && other.contains("[255, 0, 0]"), "{other}");
    Ok(())
}

/// A gray TIFF of a few bits, without compression.
fn tiff_of_bits(bits: u16, rows: &[u8]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    let tags: [(u16, u16, u32); 8] = [
        (256, 3, 4),
        (257, 3, 2),
        (258, 3, bits.into()),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8 + 2 + 8 * 12 + 4),
        (278, 3, 2),
        (279, 4, rows.len() as u32),
    ];
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, kind, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0_u8; 4]);
    bytes.extend(rows);
    bytes
}

#[test]
fn masks_of_few_bits_in_tiff_files_keep_their_numbers() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mask.tif");
    for (bits, rows, codes) in [
        (1, vec![0b1010_0000, 0b0001_0000], [1_i64, 0, 1, 0, 0, 0, 0, 1]),
        (2, vec![0b0001_1011, 0b1110_0100], [0, 1, 2, 3, 3, 2, 1, 0]),
        (4, vec![0x01, 0x2f, 0xe3, 0x45], [0, 1, 2, 15, 14, 3, 4, 5]),
    ] {
        fs::write(&file, tiff_of_bits(bits, &rows)).unwrap();
        assert_eq!(loaded_codes(file.clone())?, codes, "{bits} bits");
    }
    Ok(())
}

#[test]
fn errors_of_points_and_boxes_name_the_item() -> Result<()> {
    let (image, _) = square(8, 1, 1, 3);
    let points = |label: Vec<Point>| {
        let image = image.clone();
        DataBlock::rows(ImageBlock::rgb(), PointBlock::new(1))
            .get_x(move |_: &usize| Ok(image.clone()))
            .get_y(move |_| Ok(label.clone()))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .dataloaders_from(vec![0])
            .map(drop)
    };
    let nan = text_of(points(vec![Point::new(f32::NAN, 1.0)]));
    assert!(nan.contains("item 0") && nan.contains("NaN") && nan.contains("hidden"), "{nan}");
    assert!(text_of(points(vec![])).contains("0 points"));
    assert!(points(vec![Point::hidden()]).is_ok());
    let boxes = |corners: [f32; 4], label: &str| {
        let (image, label) = (image.clone(), label.to_owned());
        DataBlock::rows(ImageBlock::rgb(), (BBoxBlock::new(), BBoxLblBlock::new()))
            .get_x(move |_: &usize| Ok(image.clone()))
            .get_y(move |_| Ok((vec![corners], vec![label.clone()])))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .dataloaders_from(vec![0])
            .map(drop)
    };
    let inverted = text_of(boxes([5.0, 1.0, 2.0, 4.0], "cat"));
    assert!(inverted.contains("item 0") && inverted.contains("inverted"), "{inverted}");
    assert!(text_of(boxes([1.0, 1.0, 1.0, 4.0], "cat")).contains("empty"));
    assert!(text_of(boxes([1.0, f32::INFINITY, 2.0, 4.0], "cat")).contains("finite"));
    assert!(boxes([1.0, 1.0, 2.0, 4.0], "cat").is_ok());
    Ok(())
}

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

/// Labels in memory belong to a file too: that of the image.
#[test]
fn errors_of_labels_name_the_file_of_the_image() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("photo.png");
    let (image, _) = square(8, 1, 1, 3);
    image::save_buffer(&file, image.pixels(), 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    let points = |point: Point| {
        DataBlock::blocks(ImageBlock::rgb(), PointBlock::new(1))
            .get_y(move |_: &PathBuf| Ok(vec![point]))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .dataloaders_from(vec![file.clone()])
    };
    let nan = text_of(points(Point::new(1.0, f32::NAN)));
    assert!(nan.contains("photo.png") && nan.contains("NaN"), "{nan}");
    let mask = |mask: ImageSource| {
        let dls = DataBlock::blocks(ImageBlock::rgb(), MaskBlock::new(["a", "b"]))
            .get_y(move |_: &PathBuf| Ok(mask.clone()))
            .splitter(IndexSplitter::new([]))
            .bs(1)
            .num_workers(0)
            .device(Device::Cpu)
            .dataloaders_from(vec![file.clone()])?;
        dls.train().one_batch()
    };
    let size = text_of(mask(Image::new(8, 4, 1, vec![0; 32])?.into()));
    assert!(size.contains("photo.png") && size.contains("8x4"), "{size}");
    let bytes = mask(b"not an image".to_vec().into()).unwrap_err();
    assert!(matches!(&bytes, Error::Image { .. }), "{bytes}");
    let bytes = bytes.to_string();
    assert!(bytes.contains("the mask of") && bytes.contains("photo.png"), "{bytes}");
    let code = text_of(mask(Image::new(8, 8, 1, vec![7; 64])?.into()));
    assert!(code.contains("photo.png") && code.contains("is 7"), "{code}");
    Ok(())
}

/// A U-Net learns the squares, and its predictions have the size of the original.
#[test]
fn a_unet_finds_squares_at_their_original_size() -> Result<()> {
    let loss = Combined::new(CrossEntropy::new().axis(1), 1.0).and(Dice::new(), 1.0);
    let mut learn = unet_learner(mask_loaders(false, 0)?, resnet18())
        .pretrained(false)
        .loss(loss)
        .metric(dice_multi())
        .metric(iou_of_class(1, "square"))
        .metric(foreground_acc(0))
        .build()?
        .quiet();
    learn.fit_one_cycle(4, 2e-3)?;
    let interp = SegmentationInterpretation::from_learner(&mut learn)?;
    assert_eq!(interp.confusion_matrix().sum(), 4 * 40 * 40);
    let row = learn.validate()?;
    let iou = row.iter().find(|(name, _)| name == "iou_square").unwrap().1;
    let counted = interp.overlaps()[1].iou();
    assert!((iou.unwrap_or(0.0) - counted).abs() < 1e-6, "{iou:?} {counted}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("squares.safetensors");
    learn.export(&file)?;
    let predictor = Predictor::load(&file, Device::Cpu)?;
    let (image, mask) = square(48, 14, 20, 14);
    let said = predictor.predict(image.clone())?;
    let own = said.mask().unwrap();
    assert_eq!((own.width(), own.height()), (48, 48));
    let probs = said.pixel_probs().unwrap();
    assert_eq!(probs.dim(), (2, 48, 48));
    assert!(probs.sum_axis(ndarray::Axis(0)).iter().all(|p| (p - 1.0).abs() < 1e-4));
    let right = own.pixels().iter().zip(mask.pixels()).filter(|(a, b)| a == b).count();
    assert!(right as f64 > 0.8 * 48.0 * 48.0, "{right} of {} pixels", 48 * 48);
    assert_eq!(learn.predict(image.clone())?.mask(), Some(own));
    // One tile that covers the whole image equals the image.
    let tiled = predictor.predict_tiles(image.clone(), Tiles::new(48))?;
    assert_eq!(tiled.mask(), Some(own));
    let tiled = predictor.predict_tiles(image.clone(), Tiles::new(32).overlap(16))?;
    assert_eq!(tiled.mask().map(|m| (m.width(), m.height())), Some((48, 48)));
    let none = text_of(predictor.batch_size(0).predict_tiles(image, Tiles::new(32)));
    assert!(none.contains("`batch_size` is 0"), "{none}");
    Ok(())
}

/// The decoder has the channels and sizes of the body's feature maps, also if the blocks of the body keep the
/// channels in the last dimension.
#[test]
fn a_unet_joins_the_feature_maps_of_each_family() -> Result<()> {
    for (name, channels) in [
        ("swin_tiny_patch4_window7_224", vec![384, 192, 96]),
        ("test_convnext", vec![48, 32, 24]),
        ("test_efficientnet", vec![48, 32, 24, 16]),
    ] {
        let dls = mask_block().item_tfms(Resize::hw(64, 96)).dataloaders_from((0..12).collect())?;
        let mut learn = unet_learner(dls, by_name(name)?).pretrained(false).build()?.quiet();
        let params = learn.model().params().iter();
        let joined =
            params.filter(|p| p.name.ends_with(".bn.weight") && p.name.contains("layers."));
        let joined: Vec<i64> = joined.map(|p| p.tensor.size()[0]).collect();
        assert_eq!(joined, channels, "{name}");
        let x = learn.dls().valid().one_batch()?.x.narrow(0, 0, 1);
        let mut sizes = BTreeMap::new();
        let mut visit = |name: &str, out: &Tensor| drop(sizes.insert(name.to_owned(), out.size()));
        let out = learn.model().forward_with(&x, false, &mut visit)?;
        assert_eq!(out.size(), [1, 2, 64, 96], "{name}");
        // From the smallest feature map, each step doubles the size.
        for (i, by) in (0..channels.len()).zip([16, 8, 4, 2]) {
            let size = &sizes[&format!("layers.{}", 4 + i)];
            assert_eq!(size[2..], [64 / by, 96 / by], "{name}: step {i} of {sizes:?}");
        }
        learn.fit(1, 1e-3)?;
    }
    Ok(())
}

#[test]
fn a_body_without_feature_maps_is_an_error_of_a_unet() -> Result<()> {
    for name in ["test_vit", "eva02_tiny_patch14_224"] {
        let dls = mask_block().item_tfms(Resize::new(112)).dataloaders_from((0..12).collect())?;
        let e = unet_learner(dls, by_name(name)?).pretrained(false).build().unwrap_err();
        assert!(matches!(e, Error::Unsupported { .. }), "{e}");
        assert!(e.to_string().contains("no feature maps of decreasing size"), "{e}");
    }
    // The error of a body that does not accept the images has the reason.
    let swin = by_name("swin_tiny_patch4_window7_224")?.image_size(64, 64);
    let spec = ArchSpec::unet(&swin, 3, 2, UnetOptions::new().size_hw(64, 96));
    let e = text_of(spec.build(Device::Cpu, Seed(1)));
    assert!(e.contains("built for images of 64×64 pixels"), "{e}");
    Ok(())
}

fn point_loaders() -> Result<DataLoaders> {
    let all = Arc::new(squares());
    DataBlock::rows(ImageBlock::rgb(), PointBlock::new(1))
        .get_x(move |&i: &usize| Ok(all[i].0.clone()))
        .get_y(|&i| {
            let (i, half) = (i as f32, (12 + i % 4) as f32 / 2.0);
            Ok(vec![Point::new(4.0 + i * 2.0 + half, 30.0 - i * 2.0 + half)])
        })
        .splitter(IndexSplitter::new([2, 5, 8, 11]))
        .item_tfms(Resize::hw(40, 24))
        .batch_tfms(aug_transforms().size_hw(32, 32).max_warp(0.0))
        .bs(4)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from((0..12).collect())
}

#[test]
fn points_are_predicted_in_pixels_of_the_original() -> Result<()> {
    let dls = point_loaders()?;
    let batch = dls.valid().one_batch()?;
    // The distance of a correct prediction is 0. A prediction that is off by the width of the input is
    // off by the width of the part of the original that the input shows.
    let y = batch.y.as_ref().unwrap();
    let mut metric = point_distance();
    metric.update_batch(&y.view([-1, 2]), &batch)?;
    assert!(metric.value()?.unwrap() < 1e-4);
    metric.reset();
    let off = y.view([-1, 2]) + Tensor::from_slice(&[2.0_f32, 0.0]);
    metric.update_batch(&off, &batch)?;
    // The crop keeps 24 of 48 columns for each 40 rows, in whole pixels: 28.
    assert!((metric.value()?.unwrap() - 28.0).abs() < 1e-3);
    let e = metric.update(&y.view([-1, 2]), y).unwrap_err();
    assert!(matches!(e, Error::Unsupported { what: "point_distance", .. }), "{e}");
    assert!(e.to_string().contains("use `update_batch`"), "{e}");

    let mut learn = vision_learner(dls, resnet18())
        .pretrained(false)
        .head(HeadOptions::new().y_range(-1.0, 1.0))
        .metric(point_distance())
        .build()?
        .quiet();
    learn.fit_one_cycle(2, 1e-3)?;
    let (image, _) = square(48, 14, 20, 14);
    let said = learn.predict(image)?;
    let Target::Points(points) = &said.target else { panic!("{said:?}") };
    assert!((0.0..=48.0).contains(&points[0].x) && (0.0..=48.0).contains(&points[0].y));
    Ok(())
}

/// The default loss ignores hidden points.
#[test]
fn hidden_points_are_ignored() {
    let loss = PointMse;
    let pred = Tensor::from_slice(&[0.5_f32, 0.0, 9.0, 9.0]).view([1, 4]).set_requires_grad(true);
    let y = Tensor::from_slice(&[0.0_f32, 0.0, f32::NAN, f32::NAN]).view([1, 2, 2]);
    let mean = loss.mean(&pred, &y).unwrap();
    assert!((mean.double_value(&[]) - 0.125).abs() < 1e-6);
    mean.backward();
    let grad = Vec::<f32>::try_from(&pred.grad().view([-1])).unwrap();
    assert_eq!(grad[2..], [0.0, 0.0]);
}

#[test]
fn a_model_that_does_not_match_its_targets_is_an_error() -> Result<()> {
    let masks = vision_learner(mask_loaders(false, 0)?, resnet18()).pretrained(false).build();
    assert!(text_of(masks).contains("unet_learner"));
    let points = unet_learner(point_loaders()?, resnet18()).pretrained(false).build();
    assert!(text_of(points).contains("vision_learner"));
    let score = iou_of_class(2, "sky");
    let masks = unet_learner(mask_loaders(false, 0)?, resnet18()).pretrained(false).metric(score);
    let told = text_of(masks.build());
    assert!(told.contains("`class` is 2; it must be the index of one of the 2 classes"), "{told}");
    let more = unet_learner(mask_loaders(false, 0)?, resnet18()).pretrained(false).n_out(5);
    let more = text_of(more.build());
    assert!(more.contains("5 outputs for 2 codes"), "{more}");
    Ok(())
}

/// Returns a learner whose network depends only on the pixel itself: the logit of code 1 is `40 g - 20` for a
/// green value `g`, and that of code 0 is 0.
fn pointwise(dls: DataLoaders) -> Result<Learner> {
    let learn = unet_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    let params = learn.model().params();
    tch::no_grad(|| {
        // The last block then returns its input: the output of the decoder, followed by the image.
        for p in params.iter().filter(|p| p.name.contains(".convpath.1.")) {
            let _ = p.tensor.shallow_clone().zero_();
        }
        let weight = params.iter().rev().find(|p| p.tensor.dim() == 4).unwrap();
        let name = weight.name.replace("weight", "bias");
        let bias = params.iter().find(|p| p.name == name).unwrap();
        let channels = weight.tensor.size()[1];
        let _ = weight.tensor.shallow_clone().zero_();
        let _ = weight.tensor.get(1).get(channels - 2).fill_(40.0);
        bias.tensor.shallow_clone().copy_(&Tensor::from_slice(&[0.0_f32, -20.0]));
    });
    Ok(learn)
}

/// Exports a learner and loads the file.
fn exported(learn: &Learner) -> Result<Predictor> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    learn.export(&file)?;
    Predictor::load(&file, Device::Cpu)
}

/// If the outputs of a pixel depend on that pixel only, tiles change nothing.
#[test]
fn tiles_give_the_probabilities_of_the_whole_image() -> Result<()> {
    // Without a resize, a tile has the pixels of the image.
    let dls = mask_block().dataloaders_from((0..12).collect())?;
    let predictor = exported(&pointwise(dls)?)?.batch_size(4);
    let (width, height) = (83_u32, 57_u32);
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let pixels = places.flat_map(|(x, y)| [3 * x, 37 * x + 91 * y, 4 * y].map(|v| (v % 256) as u8));
    let image = Image::new(width, height, 3, pixels.collect())?;
    let whole = predictor.predict(image.clone())?;
    let probs = whole.pixel_probs().unwrap();
    assert_eq!(probs.dim(), (2, 57, 83));
    for ((code, y, x), p) in probs.indexed_iter() {
        let green = f32::from(image.pixels()[(y * 83 + x) * 3 + 1]) / 255.0;
        let logit = (40.0 * green - 20.0) * if code == 1 { 1.0 } else { -1.0 };
        let wanted = 1.0 / (1.0 + (-logit).exp());
        assert!((p - wanted).abs() < 1e-4, "{p} instead of {wanted} at {x}, {y}");
    }
    for tiles in [Tiles::new(32).overlap(8), Tiles::new(33).overlap(25), Tiles::new(64)] {
        let tiled = predictor.predict_tiles(image.clone(), tiles)?;
        assert_eq!(tiled.mask(), whole.mask(), "{tiles:?}");
        let tiled_probs = tiled.pixel_probs().unwrap();
        let far = (&tiled_probs - &probs).iter().fold(0.0_f32, |most, d| most.max(d.abs()));
        assert!(far < 1e-5, "{tiles:?}: {far}");
        let means = tiled.probs.iter().zip(&whole.probs);
        assert!(means.into_iter().all(|(a, b)| (a - b).abs() < 1e-4), "{tiles:?}");
    }
    Ok(())
}

/// The images of a batch have other sizes and shapes than the network's input, and than each other.
#[test]
fn a_loaded_predictor_gives_each_mask_the_size_of_its_image() -> Result<()> {
    let resize = Resize::hw(64, 48).method(Method::Squish);
    let dls = mask_block().item_tfms(resize).dataloaders_from((0..12).collect())?;
    let mut learn = pointwise(dls)?;
    let predictor = exported(&learn)?;
    // The size of each image, and the left, top, right and bottom of its bright rectangle.
    let all: [(u32, u32, [u32; 4]); 3] =
        [(90, 60, [10, 20, 60, 45]), (40, 100, [5, 30, 25, 74]), (48, 64, [8, 8, 20, 60])];
    let images = all.map(|(w, h, [left, top, right, bottom])| {
        let bright = |x: u32, y: u32| (left..right).contains(&x) && (top..bottom).contains(&y);
        let places = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        let pixels = places.flat_map(|(x, y)| [90, if bright(x, y) { 200 } else { 60 }, 90]);
        Image::new(w, h, 3, pixels.collect()).unwrap()
    });
    let said = predictor.predict_batch(images.clone())?;
    for ((said, image), (w, h, [left, top, right, bottom])) in said.iter().zip(&images).zip(all) {
        let mask = said.mask().unwrap();
        assert_eq!((mask.width(), mask.height()), (w, h));
        assert_eq!(said.pixel_probs().unwrap().dim(), (2, h as usize, w as usize));
        for (i, code) in (0..w * h).zip(mask.pixels()) {
            let (x, y) = (i % w, i / w);
            // Pixels within 2 of an edge may be rounded to either side.
            let inside = |d: i64| {
                let within = |v: u32, a: u32, b: u32| {
                    (i64::from(a) - d..i64::from(b) + d).contains(&i64::from(v))
                };
                within(x, left, right) && within(y, top, bottom)
            };
            match (inside(-2), inside(2)) {
                (true, _) => assert_eq!(*code, 1, "{w}x{h}: {x}, {y}"),
                (_, false) => assert_eq!(*code, 0, "{w}x{h}: {x}, {y}"),
                _ => {}
            }
        }
        assert_eq!(predictor.predict(image.clone())?.mask(), Some(mask));
        assert_eq!(learn.predict(image.clone())?.mask(), Some(mask));
    }
    Ok(())
}

#[test]
fn a_loaded_predictor_places_points_in_each_image() -> Result<()> {
    let model = ArchSpec::classifier(&resnet18(), 3, 2).build(Device::Cpu, Seed(1))?;
    let mut learn = Learner::new(point_loaders()?, model, PointMse)?.quiet();
    // The same place for every image: three quarters from the left, three eighths from the top.
    tch::no_grad(|| {
        let find = |name: &str| learn.model().params().iter().find(|p| p.name == name).unwrap();
        let _ = find("fc.weight").tensor.shallow_clone().zero_();
        let place = Tensor::from_slice(&[0.5_f32, -0.25]);
        find("fc.bias").tensor.shallow_clone().copy_(&place);
    });
    let predictor = exported(&learn)?;
    // The size of each image; the left edge and the width of the part that the network sees, which has the
    // shape of the input and the full height.
    let all: [(u32, u32, f32, f32); 3] =
        [(60, 90, 3.0, 54.0), (100, 50, 35.0, 30.0), (48, 48, 10.0, 28.0)];
    let images = all.map(|(w, h, ..)| Image::new(w, h, 3, vec![90; (w * h * 3) as usize]).unwrap());
    let said = predictor.predict_batch(images.clone())?;
    assert_eq!(said.len(), 3);
    for ((said, image), (w, h, left, wide)) in said.iter().zip(&images).zip(all) {
        let Target::Points(points) = &said.target else { panic!("{said:?}") };
        let wanted = (left + 0.75 * wide, 0.375 * h as f32);
        let near = (points[0].x - wanted.0).abs() < 1e-3 && (points[0].y - wanted.1).abs() < 1e-3;
        assert!(near && points.len() == 1, "{w}x{h}: {points:?} instead of {wanted:?}");
        assert_eq!(predictor.predict(image.clone())?.target, said.target);
        assert_eq!(learn.predict(image.clone())?.target, said.target);
    }

    // A damaged file with more points than any network has outputs.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("points.safetensors");
    learn.export(&file)?;
    let (state, mut about) = read_safetensors(&file)?;
    let export = about.get_mut("export").unwrap();
    let (one, many) = (r#""kind":"points","n":1"#, r#""kind":"points","n":18446744073709551615"#);
    assert!(export.contains(one), "{export}");
    *export = export.replace(one, many);
    write_safetensors(&file, &state, Some(about))?;
    let e = Predictor::load(&file, Device::Cpu).unwrap_err();
    assert!(matches!(e, Error::Checkpoint { .. }), "{e}");
    assert!(e.to_string().contains("2 outputs"), "{e}");
    Ok(())
}

#[test]
fn predicted_masks_that_do_not_fit_are_errors_of_the_interpretation() -> Result<()> {
    let of = |said: Image| {
        let task = Task::Mask { codes: ["a".to_owned(), "b".to_owned()].into(), ignored: Some(9) };
        // 9 is ignored, and 7 is not a code.
        let target = Target::Mask(Image::new(4, 2, 1, vec![0, 1, 0, 1, 9, 7, 0, 1])?);
        let (preds, decoded) = (Array2::zeros((1, 2)), vec![Target::Mask(said)]);
        let all = Predictions::new(vec![3], preds, vec![target], decoded, vec![], task);
        SegmentationInterpretation::from_predictions(all)
    };
    let fits = of(Image::new(4, 2, 1, vec![0, 1, 1, 1, 0, 0, 0, 0])?)?;
    assert_eq!(fits.confusion_matrix(), &ndarray::array![[2, 1], [1, 2]]);
    let turned = text_of(of(Image::new(2, 4, 1, vec![0; 8])?));
    assert!(["item 3", "4x2", "2x4"].iter().all(|word| turned.contains(word)), "{turned}");
    let beyond = text_of(of(Image::new(4, 2, 1, vec![0, 1, 2, 1, 0, 0, 0, 0])?));
    assert!(beyond.contains("item 3") && beyond.contains("code 2"), "{beyond}");
    Ok(())
}

#[test]
fn the_accuracy_of_the_foreground_ignores_a_value() -> Result<()> {
    let ones = Tensor::from_slice(&[0.0_f32, 1.0, 0.0, 0.0]).view([1, 1, 1, 4]);
    let half = ones.zeros_like() + 0.5;
    let pred = Tensor::cat(&[&half, &ones], 1);
    let y = Tensor::from_slice(&[0_i64, 1, 1, 255]).view([1, 1, 4]);
    let value = |mut metric: ForegroundAccuracy| -> Result<f64> {
        metric.update(&pred, &y)?;
        Ok(metric.value()?.unwrap())
    };
    assert!((value(foreground_acc(0))? - 1.0 / 3.0).abs() < 1e-9);
    assert!((value(foreground_acc(0).ignore_index(255))? - 0.5).abs() < 1e-9);
    assert!((value(foreground_acc(0).ignore_index(0))? - 1.0 / 3.0).abs() < 1e-9);
    Ok(())
}

#[test]
fn a_user_transform_can_set_the_placement() {
    let (image, _) = square(8, 1, 1, 3);
    let mut sample = Sample::new(image.clone(), Target::None);
    let whole = sample.placement().unwrap().clone();
    sample.image = image.resize(4, 4, Default::default()).unwrap();
    assert!(sample.placement().is_none(), "its size has changed");
    let map = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]];
    sample.set_placement(Some(whole.then((4, 4), map)));
    assert_eq!(sample.placement().unwrap().to_original(1.0, 3.0), (2.0, 6.0));
}

#[cfg(feature = "show")]
#[test]
fn figures_show_masks_points_and_boxes() -> Result<()> {
    // The colors of both codes are in the figure of a batch, and in its legend.
    let shown = mask_loaders(true, 0)?.show_batch(4)?.image()?;
    assert!(shown.width() > 200);
    let distinct: std::collections::BTreeSet<&[u8]> = shown.pixels().chunks(3).collect();
    assert!(
        distinct.contains(&[0x00, 0x72, 0xb2][..]),
        "the legend has the color of the first code"
    );
    let points = point_loaders()?.show_batch(4)?.image()?;
    assert!(points.pixels().chunks(3).any(|p| p == [0x00, 0x72, 0xb2]));
    let mut learn = unet_learner(mask_loaders(false, 0)?, resnet18())
        .pretrained(false)
        .unet(UnetOptions::new().blur(true))
        .build()?
        .quiet();
    assert!(learn.show_results(2)?.image()?.width() > 200);
    let html = learn.report("Squares")?.html();
    assert!(html.contains("Mean IoU") && html.contains("square"));
    Ok(())
}

/// A model may predict a point at any distance.
#[cfg(feature = "show")]
#[test]
fn points_far_outside_of_the_image_are_not_drawn() -> Result<()> {
    let vars = nn::VarStore::new(Device::Cpu);
    let far = vars.root().var("far", &[2], nn::Init::Const(1e19));
    let sign = Tensor::from_slice(&[1.0_f32, -1.0]);
    let net = nn::func_t(move |x, _| (&far * &sign).unsqueeze(0).repeat([x.size()[0], 1]));
    let model = Model::from_module(vars, net)?;
    let mut learn = Learner::new(point_loaders()?, model, PointMse)?.quiet();
    assert!(learn.show_results(2)?.image()?.width() > 64);
    Ok(())
}

/// A loader pads boxes and returns their classes.
#[test]
fn boxes_are_padded_and_have_classes() -> Result<()> {
    let all = Arc::new(squares());
    let label = |n: usize| {
        let boxes = vec![[4.0_f32, 6.0, 20.0, 30.0]; n];
        (boxes, vec!["cat".to_owned(); n])
    };
    let dls = DataBlock::rows(ImageBlock::rgb(), (BBoxBlock::new(), BBoxLblBlock::new()))
        .get_x(move |&i: &usize| Ok(all[i].0.clone()))
        .get_y(move |&i| Ok(label(i + 1)))
        .splitter(IndexSplitter::new([0, 1]))
        .item_tfms(Resize::new(24))
        .bs(2)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from((0..4).collect())?;
    let Batch { y, labels, .. } = dls.valid().one_batch()?;
    let (y, labels) = (y.unwrap(), labels.unwrap());
    assert_eq!((y.size(), labels.size()), (vec![2, 2, 4], vec![2, 2]));
    assert_eq!(Vec::<Vec<i64>>::try_from(&labels).unwrap(), [[1, 0], [1, 1]]);
    let first = Vec::<f32>::try_from(&y.get(0).get(0)).unwrap();
    let wanted = [4.0, 6.0, 20.0, 30.0].map(|v: f32| v * 2.0 / 48.0 - 1.0);
    assert!(first.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{first:?}");
    assert_eq!(y.get(0).get(1).abs().max().double_value(&[]), 0.0);
    let source: ImageSource = PathBuf::from("a.png").into();
    assert_eq!(format!("{source:?}"), "a.png");
    Ok(())
}

//! Images of all kinds, written and read by Pillow 13: the pixels are those of its `convert`.

use finetune::{
    Error,
    image::{Decode, Filter, Image, PadMode, inspect, promised_format},
    transform::{ItemTransform, Method, RandomResizedCrop, Resize},
};
use std::{fs, path::Path};

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/pillow").join(name)).unwrap()
}

/// Returns the first pixels of a file in RGB, every `step`th of a row.
fn pixels(name: &str, row: usize, step: usize) -> Vec<[u8; 3]> {
    let image = Decode::new().read(&file(name), name).unwrap();
    let row = &image.pixels()[row * image.width() as usize * 3..][..image.width() as usize * 3];
    row.chunks_exact(3).step_by(step).map(|p| [p[0], p[1], p[2]]).collect()
}

fn gray(name: &str) -> Vec<u8> {
    pixels(name, 0, 1).iter().map(|p| p[0]).collect()
}

#[test]
fn alpha_is_dropped_and_palettes_are_looked_up() {
    assert_eq!(pixels("rgba.png", 0, 1), [[200, 100, 50], [200, 100, 50], [10, 20, 30]]);
    assert_eq!(pixels("la.png", 0, 1), [[200; 3], [100; 3]]);
    let palette = [[255, 0, 0], [0, 255, 0], [0, 0, 255]];
    assert_eq!(pixels("pt.png", 0, 1), palette);
    assert_eq!(pixels("pt.gif", 0, 1), palette);
    assert_eq!(gray("b1.png"), [0, 255, 255, 0]);
}

#[test]
fn the_upper_eight_of_sixteen_bits_are_used() {
    // The values are 0 1 127 128 255 256 257 511 32767 32768 65280 65535.
    let upper = [0, 0, 0, 0, 0, 1, 1, 1, 127, 128, 255, 255];
    for name in ["rgb16.png", "rgba16.png", "la16.png"] {
        assert_eq!(gray(name), upper, "{name}");
    }
    // Pillow clips gray values at 255: 0 1 127 128 255 255 255 ... This crate treats all modes alike.
    assert_eq!(gray("g16.png"), upper);
    assert_eq!(gray("g16.tif"), upper);
}

#[test]
fn gray_is_weighted_as_pillow_weights_it() {
    let image = Decode::new().channels(1).read(&file("rgb.png"), "rgb.png").unwrap();
    assert_eq!(image.pixels(), [76, 150, 29, 130, 255, 2]);
    let image = Decode::new().channels(1).read(&file("g16.png"), "g16.png").unwrap();
    assert_eq!(image.pixels().len(), 12);
}

#[test]
fn cmyk_becomes_rgb() {
    let wanted = [
        [255, 255, 255],
        [0, 255, 255],
        [255, 0, 255],
        [255, 255, 0],
        [0, 0, 0],
        [149, 197, 221],
        [159, 36, 146],
        [63, 63, 63],
    ];
    for name in ["cmyk.jpg", "cmyk.tif"] {
        let found: Vec<_> = pixels(name, 8, 16);
        let far = found.iter().flatten().zip(wanted.iter().flatten());
        let far = far.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far <= 2, "{name}: {found:?}");
        assert!(inspect(&file(name), 1 << 20).unwrap().cmyk, "{name}");
    }
}

#[test]
fn the_exif_orientation_is_applied_unless_disabled() {
    let bytes = file("turned.jpg");
    let upright = Decode::new().read(&bytes, "").unwrap();
    assert_eq!((upright.width(), upright.height()), (16, 24));
    let pixel = |x: usize, y: usize| upright.pixels()[(y * 16 + x) * 3..][..3].to_vec();
    assert!(pixel(13, 2)[0] > 200 && pixel(2, 21)[2] > 200, "turned the wrong way");
    let as_stored = Decode::new().orient(false).read(&bytes, "").unwrap();
    assert_eq!((as_stored.width(), as_stored.height()), (24, 16));
}

#[test]
fn the_first_frame_is_decoded_and_facts_are_reported() {
    for name in ["moves.gif", "moves.png", "moves.webp"] {
        assert_eq!(pixels(name, 20, 40), [[0; 3]], "{name}");
        assert!(inspect(&file(name), 1 << 20).unwrap().animated, "{name}");
    }
    for (name, format) in [("pt.gif", "gif"), ("pt.png", "png"), ("cmyk.jpg", "jpeg")] {
        let facts = inspect(&file(name), 1 << 20).unwrap();
        assert_eq!((facts.format, facts.animated), (format, false), "{name}");
        assert_eq!(promised_format(Path::new(name)), Some(format));
    }
    assert!(inspect(&file("turned.jpg"), 1 << 20).unwrap().turned);
    assert!(inspect(&file("g16.tif"), 1 << 20).unwrap().deep);
    assert!(!inspect(&file("b1.png"), 1 << 20).unwrap().deep);
    assert_eq!(promised_format(Path::new("a.JPG")), promised_format(Path::new("a.jfif")));
    assert_eq!(promised_format(Path::new("notes.txt")), None);
    let e = inspect(b"no picture", 1 << 20).unwrap_err().to_string();
    assert!(e.contains("not of a known image format"), "{e}");
}

#[test]
fn sizes_that_no_memory_has_are_errors() {
    let (most, zeros) = (u32::MAX, PadMode::Zeros);
    let e = Image::new(most, most, 3, vec![]).unwrap_err();
    assert!(matches!(e, Error::Mismatch { what: "Image::new", .. }), "{e}");
    let image = Image::new(2, 3, 3, (0..18).collect()).unwrap();
    for (made, told) in [
        (image.crop_pad(0, 0, most, most, zeros), "not enough memory"),
        (image.crop_pad(i64::MAX, 0, 1, 1, zeros), "too far from the image"),
        (image.crop_pad(0, i64::MAX - 3, 1, 4, zeros), "too far from the image"),
        (image.crop_pad(0, 0, 0, 1, zeros), "both sides must be 1 or more"),
        (image.resize(1 << 25, 1, Filter::Bilinear), "from 1 to 16777216 pixels"),
        (image.resize(most, most, Filter::Nearest), "not enough memory"),
        (image.resize(4, 0, Filter::Area), "both sides must be 1 or more"),
    ] {
        let e = made.unwrap_err();
        assert!(matches!(e, Error::Config { .. }) && e.to_string().contains(told), "{told}: {e}");
    }
    let far = image.crop_pad(i64::MIN, i64::MAX - 1, 1, 1, PadMode::Border).unwrap();
    assert_eq!(far.pixels(), [12, 13, 14], "the lower left corner");

    // A narrow image, padded to a wide shape.
    let high = Image::new(10, 10_000, 1, vec![0; 100_000]).unwrap();
    let e = Resize::hw(1, 1 << 28).method(Method::Pad).at(&high, (0.5, 0.5)).unwrap_err();
    assert!(e.to_string().contains("would be padded to 2684354560000x10000"), "{e}");
    let enlarged = RandomResizedCrop::new(1 << 14).val_xtra(10.0);
    let e = ItemTransform::check(&enlarged).unwrap_err().to_string();
    assert!(e.starts_with("`val_xtra`: the size is 180224x180224"), "{e}");
}

#[test]
fn a_truncated_jpeg_is_an_error_at_any_length() {
    let bytes = file("turned.jpg");
    // Without only its end marker, the image is complete.
    for keep in 0..bytes.len() - 2 {
        let e = Decode::new().read(&bytes[..keep], "photo.jpg").unwrap_err();
        assert!(matches!(&e, Error::Image { item, .. } if item == "photo.jpg"), "{keep}: {e}");
    }
    // Bytes after the end have no effect.
    Decode::new().read(&[&bytes[..], b"a remark"].concat(), "").unwrap();
}

#[test]
fn too_many_pixels_are_an_error_before_memory_is_allocated() {
    let bytes = file("cmyk.jpg"); // 128x16
    Decode::new().max_pixels(128 * 16).read(&bytes, "").unwrap();
    let e = Decode::new().max_pixels(128 * 16 - 1).read(&bytes, "").unwrap_err();
    assert!(e.to_string().contains("limit of 2047"), "{e}");
}

/// Returns the mean difference of two images, in levels.
fn distance(a: &Image, b: &Image) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let all = a.pixels().iter().zip(b.pixels()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    all.sum::<f64>() / a.pixels().len() as f64
}

#[test]
fn reduced_images_are_close_to_full_decoding() {
    let kinds =
        ["reduced.jpg", "reduced_progressive.jpg", "reduced_gray.jpg", "reduced_turned.jpg"];
    for name in kinds {
        let bytes = file(name);
        let full = Decode::new().read(&bytes, name).unwrap();
        let (w, h) = (full.width(), full.height());
        for (divisor, bound_at_half) in [(2, 1.0), (4, 1.0), (8, 2.0)] {
            let shorter = w.min(h) / divisor;
            let reduced = Decode::new().reduce_to(shorter).read(&bytes, name).unwrap();
            assert_eq!((reduced.width(), reduced.height()), (w / divisor, h / divisor), "{name}");
            // Compare after a resize to the reduced size, and to half of it. Taking every second pixel of the full
            // image, without any filter, would be 3.5 levels off.
            for (part, bound) in [(1, 3.0), (2, bound_at_half)] {
                let (w, h) = (w / divisor / part, h / divisor / part);
                let to = |image: &Image| image.resize(w, h, Filter::Bilinear).unwrap();
                let distance = distance(&to(&full), &to(&reduced));
                assert!(distance < bound, "{name} at 1/{divisor}, resized to {w}x{h}: {distance}");
            }
        }
        // One more pixel needs the full size.
        let more = Decode::new().reduce_to(w.min(h) / 2 + 1).read(&bytes, name).unwrap();
        assert_eq!(more, full, "{name}");
    }
    // CMYK, small images and other formats are decoded at full size.
    for name in ["reduced_cmyk.jpg", "turned.jpg", "rgb.png"] {
        let full = Decode::new().read(&file(name), name).unwrap();
        let shorter = full.width().min(full.height());
        let least = if name == "reduced_cmyk.jpg" { 60 } else { shorter };
        let same = Decode::new().reduce_to(least).read(&file(name), name).unwrap();
        assert_eq!(same, full, "{name}");
    }
    let gray = Decode::new().channels(1).reduce_to(60).read(&file("reduced.jpg"), "").unwrap();
    assert_eq!((gray.width(), gray.height(), gray.channels()), (80, 60, 1));
    let sideways = Decode::new().orient(false).reduce_to(60);
    let sideways = sideways.read(&file("reduced_turned.jpg"), "").unwrap();
    assert_eq!((sideways.width(), sideways.height()), (80, 60));
}

/// A reserved marker after the frame is skipped by one decoder and rejected by the one for reduced sizes.
#[test]
fn reduced_decoding_accepts_the_same_files_as_full_decoding() {
    let bytes = file("reduced.jpg");
    let mut at = 2;
    loop {
        let (marker, length) = (bytes[at + 1], u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        at += 2 + usize::from(length);
        if marker == 0xc0 {
            break;
        }
    }
    let odd = [&bytes[..at], &[0xff, 0xf0, 0, 4, 1, 2], &bytes[at..]].concat();
    let full = Decode::new().read(&odd, "odd.jpg").unwrap();
    assert_eq!(full, Decode::new().read(&bytes, "reduced.jpg").unwrap());
    assert_eq!(Decode::new().reduce_to(60).read(&odd, "odd.jpg").unwrap(), full);
}

#[test]
fn reduced_decoding_rejects_the_same_files_as_full_decoding() {
    let bytes = file("reduced.jpg");
    let decode = Decode::new().reduce_to(60);
    let e = decode.read(&bytes[..bytes.len() / 2], "half.jpg").unwrap_err().to_string();
    assert!(e.contains("half.jpg"), "{e}");
    let e = decode.max_pixels(1000).read(&bytes, "large.jpg").unwrap_err().to_string();
    assert!(e.contains("large.jpg") && e.contains("1000"), "{e}");
    // It is part of the description of a model; files without it mean decoding at full size.
    let json = serde_json::to_string(&decode).unwrap();
    assert_eq!(serde_json::from_str::<Decode>(&json).unwrap(), decode);
    let old = r#"{"channels":3,"orient":true,"max_pixels":268435456}"#;
    assert_eq!(serde_json::from_str::<Decode>(old).unwrap(), Decode::new());
    assert_eq!(serde_json::to_string(&Decode::new()).unwrap(), old);
}

/// Intended differences from Pillow, by the beginning of the file name.
const DIFFERENT: [(&str, &str); 5] = [
    ("gray16.", "the upper 8 of 16 bits are used; Pillow clips at 255"),
    ("float.tif", "rejected, since the range of the numbers is unknown"),
    ("int32.tif", "rejected, since the range of the numbers is unknown"),
    ("rgb.ico", "rejected, since icons are not photos"),
    ("j_open.jpg", "decoded, since the image is complete; Pillow needs bytes after it"),
];

/// `make decode` writes the files and the pixels that Pillow reads from them.
#[test]
#[ignore = "needs files that `make decode` writes"]
fn pillow_decodes_and_rejects_the_same_files() {
    let folder = std::env::var("FINETUNE_DECODE_DIR").expect("`make decode` names the folder");
    let (mut files, mut refused, mut wrong) = (0, 0, vec![]);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names.iter().filter(|path| path.extension().is_none_or(|e| e != "rgb")) {
        files += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let theirs = fs::read(format!("{}.rgb", path.display())).ok();
        let what = match (Decode::new().open(path), theirs) {
            (Err(_), None) => {
                refused += 1;
                continue;
            }
            (Err(e), Some(_)) => format!("{e}"),
            (Ok(_), None) => "Pillow rejects it".to_owned(),
            (Ok(image), Some(theirs)) => {
                let size = [image.width().to_le_bytes(), image.height().to_le_bytes()].concat();
                let pixels = image.pixels().iter().zip(&theirs[8..]);
                match pixels.map(|(a, b)| a.abs_diff(*b)).max() {
                    Some(0..=8) if theirs[..8] == size => continue,
                    far => format!("{}x{}, {far:?} levels off", image.width(), image.height()),
                }
            }
        };
        if !DIFFERENT.iter().any(|(begin, _)| name.starts_with(begin)) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {files} files:\n{}", wrong.len(), wrong.join("\n"));
    assert!(files > 1000, "{files} files");
    eprintln!("{files} files: {refused} rejected by both, all others within 8 levels");
}

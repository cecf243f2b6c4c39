//! Mask files: their numbers and colors in every format, and the errors of invalid ones.

use super::spatial::{square, text_of};
use finetune::{
    Result,
    data::{DataBlock, ImageBlock, ImageSource, IndexSplitter, MaskBlock, TargetBlock as _},
    image::Image,
    sample::Target,
};
use std::{fs, io::Cursor, path::PathBuf};
use tch::Device;

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

//! Generated damaged files: each is an error or is skipped, without a panic, a hang, or memory beyond a
//! limit.

use finetune::{
    Error,
    data::{DataBlock, DataLoaders, ImageBlock, IndexSplitter, OnError, RegressionBlock},
    image::{Decode, Image, inspect},
    transform::Resize,
};
use image::{DynamicImage, ImageFormat, RgbImage};
use std::{
    fs,
    io::Cursor,
    panic,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Larger images are rejected, so that reading takes at most 16 bytes of memory per pixel of this limit.
const MAX_PIXELS: u64 = 1 << 20;

/// The time limit for such small images, on a busy machine and without optimization.
const LONGEST: Duration = Duration::from_secs(20);

/// The required result of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Fail,
    Decode,
    /// Damage that a decoder may or may not detect.
    End,
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    must: Must,
}

/// Numbers from a linear congruential generator, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

const FORMATS: [(ImageFormat, &str); 8] = [
    (ImageFormat::Jpeg, "jpg"),
    (ImageFormat::Png, "png"),
    (ImageFormat::Gif, "gif"),
    (ImageFormat::Bmp, "bmp"),
    (ImageFormat::Tiff, "tiff"),
    (ImageFormat::WebP, "webp"),
    (ImageFormat::Pnm, "ppm"),
    (ImageFormat::Jpeg, "jpeg"),
];

fn picture() -> DynamicImage {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 5) as u8, (y * 6) as u8, (x * y) as u8]);
    RgbImage::from_fn(48, 40, pixel).into()
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    picture().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Returns files whose headers announce huge images.
fn huge() -> Vec<(&'static str, Vec<u8>)> {
    let with = |format, at: usize, new: &[u8]| {
        let mut bytes = encoded(format);
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let mut png = with(ImageFormat::Png, 16, &[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    let jpeg = encoded(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let mut tiff = b"II*\0\x08\0\0\0\x05\0".to_vec();
    for (tag, value) in [(256u16, 0x7fff_ffffu32), (257, 0x7fff_ffff), (258, 8), (262, 1), (278, 1)]
    {
        tiff.extend(tag.to_le_bytes().iter().chain(&[4, 0, 1, 0, 0, 0]));
        tiff.extend(value.to_le_bytes());
    }
    let mut webp = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
    webp.extend([0xff; 6]);
    webp.extend(b"VP8L\x10\0\0\0\x2f\xff\xff\xff\x0f");
    webp.extend([0; 40]);
    vec![
        ("png", png),
        ("jpg", with(ImageFormat::Jpeg, frame + 5, &[0xff; 4])),
        ("gif", with(ImageFormat::Gif, 6, &[0xff; 4])),
        ("bmp", with(ImageFormat::Bmp, 18, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f])),
        ("tiff", tiff),
        ("webp", webp),
        ("ppm", b"P6 999999999 999999999 255\nabc".to_vec()),
        ("pgm", b"P5 4294967295 4294967295 65535\nabc".to_vec()),
        ("pbm", b"P4 2147483647 2147483647\nabc".to_vec()),
        ("pam", b"P7\nWIDTH 4294967295\nHEIGHT 4294967295\nDEPTH 4\nMAXVAL 255\nENDHDR\n".to_vec()),
    ]
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

fn cases() -> Vec<Case> {
    let (mut cases, mut random) = (vec![], Random(1));
    let mut add = |what: String, extension: &str, bytes: Vec<u8>, must| {
        let name = format!("{:04}-{what}.{extension}", cases.len());
        cases.push(Case { name, bytes, must });
    };
    for (format, extension) in FORMATS {
        let whole = encoded(format);
        add("whole".into(), extension, whole.clone(), Must::Decode);
        for i in 0..24 {
            let keep = whole.len() * i / 24;
            // In other formats, the last bytes may be padding or unused.
            let must = if format == ImageFormat::Jpeg || i < 12 { Must::Fail } else { Must::End };
            add(format!("cut-{keep}"), extension, whole[..keep].to_vec(), must);
        }
        for _ in 0..40 {
            let mut flipped = whole.clone();
            for _ in 0..=random.next() % 4 {
                let at = random.next() % flipped.len();
                flipped[at] ^= 1 << (random.next() % 8);
            }
            add("flipped".into(), extension, flipped, Must::End);
        }
        // The first bytes of a format, followed by random bytes.
        for keep in [4, 12, 30] {
            let mut bytes = whole[..keep].to_vec();
            bytes.extend(random.bytes(500));
            add("head".into(), extension, bytes, Must::End);
        }
        for (_, other) in FORMATS {
            add("misnamed".into(), other, whole.clone(), Must::Decode);
        }
    }
    for (extension, bytes) in huge() {
        add("huge".into(), extension, bytes, Must::Fail);
    }
    for i in 0..40 {
        let n = [0, 1, 2, 7, 100, 5000][i % 6];
        add("random".into(), "jpg", random.bytes(n), if n == 0 { Must::Fail } else { Must::End });
    }
    cases
}

/// Returns the peak memory of this process in bytes, if the system reports it.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Runs `work`, which must neither hang nor take much memory.
fn bounded<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (before, (sender, receiver)) = (peak(), mpsc::channel());
    let worker = thread::spawn(move || sender.send(work()));
    let result = receiver.recv_timeout(limit).expect("it panicked or hangs");
    worker.join().unwrap().unwrap();
    if let (Some(before), Some(after)) = (before, peak()) {
        let grown = (after - before) >> 20;
        assert!(grown < 400, "{grown} MiB more");
    }
    result
}

fn decode(bytes: &[u8], name: &str) -> Result<Image, Error> {
    Decode::new().max_pixels(MAX_PIXELS).read(bytes, name)
}

#[test]
fn the_decoder_returns_an_image_or_an_error() {
    let cases = cases();
    assert!(cases.len() >= 500, "{}", cases.len());
    bounded(Duration::from_secs(300), move || {
        for case in &cases {
            let begin = Instant::now();
            let image = panic::catch_unwind(|| decode(&case.bytes, &case.name));
            let image = image.unwrap_or_else(|_| panic!("{} panicked", case.name));
            let _ = panic::catch_unwind(|| inspect(&case.bytes, MAX_PIXELS))
                .unwrap_or_else(|_| panic!("{} panicked when inspected", case.name));
            assert!(begin.elapsed() < LONGEST, "{}: {:?}", case.name, begin.elapsed());
            match (&image, case.must) {
                (Ok(image), Must::Decode) => assert_eq!((image.width(), image.height()), (48, 40)),
                (Ok(image), Must::End) => {
                    assert!(u64::from(image.width()) * u64::from(image.height()) <= MAX_PIXELS);
                }
                (Err(Error::Image { item, .. }), Must::Fail | Must::End) => {
                    assert_eq!(*item, case.name);
                }
                (other, must) => panic!("{}: {must:?}, but {other:?}", case.name),
            }
        }
    });
}

/// Writes every case to a file; every other file is valid.
fn folder() -> (tempfile::TempDir, Vec<PathBuf>, Vec<Case>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut files, cases) = (vec![], cases());
    for case in &cases {
        let path = dir.path().join(&case.name);
        fs::write(&path, &case.bytes).unwrap();
        files.push(path);
    }
    (dir, files, cases)
}

fn loaders(files: &[PathBuf], on_error: OnError, workers: usize) -> DataLoaders {
    let block = DataBlock::blocks(ImageBlock::rgb().max_pixels(MAX_PIXELS), RegressionBlock::one())
        .get_y(|_: &PathBuf| Ok(0.0))
        .splitter(IndexSplitter::new([0]))
        .item_tfms(Resize::new(32))
        .bs(16)
        .drop_last(false)
        .num_workers(workers)
        .device(finetune::tch::Device::Cpu)
        .on_error(on_error);
    block.dataloaders_from(files.to_vec()).unwrap()
}

#[test]
fn the_loader_skips_and_reports_files_that_it_cannot_load() {
    let (_dir, files, cases) = folder();
    let bad: Vec<_> = cases
        .iter()
        .enumerate()
        .filter(|(i, case)| *i > 0 && decode(&case.bytes, &case.name).is_err())
        .map(|(i, _)| i)
        .collect();
    let n = files.len();
    assert!(bad.len() > 150 && bad.len() < n - 100, "{} of {n}", bad.len());
    for workers in [0, 2] {
        let files = files.clone();
        let (loaded, skipped) = bounded(Duration::from_secs(300), move || {
            let dls = loaders(&files, OnError::Skip, workers);
            let size = |b: Result<finetune::sample::Batch, Error>| b.unwrap().x.size()[0];
            let loaded: i64 = dls.train().batches(0).map(size).sum();
            (loaded as usize, dls.skipped())
        });
        assert_eq!(skipped.iter().map(|s| s.item).collect::<Vec<_>>(), bad);
        assert_eq!(loaded, n - 1 - bad.len());
        for one in &skipped {
            assert!(one.why.contains(&cases[one.item].name), "{}", one.why);
        }
    }
}

#[test]
fn the_loader_fails_with_the_name_of_the_file() {
    let (dir, _, _) = folder();
    let good = dir.path().join("good.png");
    fs::write(&good, encoded(ImageFormat::Png)).unwrap();
    let bad = dir.path().join("bad.png");
    fs::write(&bad, &encoded(ImageFormat::Png)[..60]).unwrap();
    for workers in [0, 2] {
        let mut files = vec![good.clone(); 40];
        files[20] = bad.clone();
        let e = bounded(Duration::from_secs(100), move || {
            let dls = loaders(&files, OnError::Fail, workers);
            dls.train().batches(0).find_map(Result::err).unwrap()
        });
        assert!(matches!(&e, Error::Image { .. }), "{e}");
        assert!(e.to_string().contains(Path::new(&bad).to_str().unwrap()), "{e}");
    }
}

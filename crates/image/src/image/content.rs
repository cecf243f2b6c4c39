//! Descriptions of files that are not images, or images of an unsupported format.

/// Names the content of a file that no decoder accepts, and says what to do about it.
pub(super) fn described(bytes: &[u8]) -> String {
    let start = |n: usize| &bytes[..n.min(bytes.len())];
    let text = String::from_utf8_lossy(start(512))
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    let brands = || start(64).get(8..).unwrap_or_default().chunks(4);
    if bytes.is_empty() {
        return "the file is empty (0 bytes): copy or download it again".into();
    }
    if bytes.iter().all(|b| *b == 0) {
        return format!(
            "the file holds {} zero bytes and nothing else: copy or download it again",
            bytes.len()
        );
    }
    if text.starts_with("version https://git-lfs.github.com/") {
        return "it is a Git LFS pointer, not the image: run `git lfs pull`".into();
    }
    if text.starts_with("<!doctype html") || text.starts_with("<html") || text.contains("<html") {
        return "it is an HTML page, most likely the error page of a failed download".into();
    }
    if text.starts_with("<svg") || (text.starts_with("<?xml") && text.contains("<svg")) {
        return "it is an SVG drawing: convert it to PNG".into();
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        let any = |names: &[&[u8]]| brands().any(|b| names.contains(&b));
        return match () {
            () if any(&[b"avif", b"avis"]) => unsupported("AVIF"),
            () if any(&[
                b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
            ]) =>
            {
                unsupported("HEIC")
            }
            () => "it is a video or another file of the MP4 family".into(),
        };
    }
    let known: [(&[u8], &str); 10] = [
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\x01\0", "ICO"),
        (b"8BPS", "Photoshop"),
        (b"DDS ", "DDS"),
        (b"%PDF", "PDF"),
        (b"#?RADIANCE", "Radiance HDR"),
        (b"v/1\x01", "OpenEXR"),
    ];
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return unsupported(name);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x1f\x8b") {
        return "it is an archive: unpack it first".into();
    }
    "the content is not of a known image format".into()
}

fn unsupported(format: &str) -> String {
    format!("its format is {format}, which is not supported: convert it to JPEG or PNG")
}

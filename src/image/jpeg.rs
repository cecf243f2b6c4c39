//! What a JPEG file's markers say, without decoding it.

/// What is known of a JPEG file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jpeg {
    /// 1 for gray, 3 for color, 4 for CMYK.
    pub(super) components: u8,
    /// Whether the end of the picture is there. Decoders fill what is missing of one that was cut
    /// short, with gray or whatever comes.
    pub(super) complete: bool,
}

/// The marker of the end.
pub(super) const END: [u8; 2] = [0xff, 0xd9];

/// Reads the markers of a JPEG file; `None` if it is none.
pub(super) fn markers(bytes: &[u8]) -> Option<Jpeg> {
    if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return None;
    }
    let mut jpeg = Jpeg { components: 0, complete: false };
    let (mut at, mut scanned) = (2, false);
    loop {
        // Between segments there may be fill bytes; in a scan, pixels, of which 0xff 0x00 is one.
        at += bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|b| *b == 0xff))
            .unwrap_or(usize::MAX / 2);
        let Some(&marker) = bytes.get(at + 1) else { return Some(jpeg) };
        match marker {
            // The picture ends only after it has begun.
            0xd9 if scanned => return Some(Jpeg { complete: true, ..jpeg }),
            0xff => at += 1,
            0x00 | 0x01 | 0xd0..=0xd9 => at += 2,
            marker => {
                let segment = bytes.get(at + 2..).unwrap_or_default();
                let [high, low, ..] = *segment else { return Some(jpeg) };
                // All starts of frames; the other three of the row are tables.
                if (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker) {
                    jpeg.components = segment.get(7).copied().unwrap_or(0);
                }
                scanned |= marker == 0xda;
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_after_the_picture_has_begun() {
        let head = [0xff, 0xd8, 0xff, 0xe0, 0, 6, 0xff, 0xd9, 1, 2];
        let frame = [0xff, 0xc0, 0, 8, 8, 0, 1, 0, 1, 4];
        let scan = [0xff, 0xda, 0, 2, 7, 0xff, 0, 0xff, 0xd1, 9];
        let whole = [&head[..], &frame, &scan, &[0xff, 0xff, 0xd9]].concat();
        assert_eq!(markers(&whole), Some(Jpeg { components: 4, complete: true }));
        for cut in 3..whole.len() {
            assert!(!markers(&whole[..cut]).unwrap().complete, "{cut}");
        }
        assert_eq!(markers(b"GIF89a"), None);
    }
}

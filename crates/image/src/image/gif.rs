//! The first frame of a GIF file, on the canvas that Pillow uses.

use super::decoded::{Decoded, within};
use crate::error::BoxError;
use ::image::RgbImage;
use gif::{ColorOutput, DecodeOptions, MemoryLimit};
use std::io::Cursor;

/// Decodes the first frame. The canvas covers the screen and the frame. Pixels outside the frame have
/// its transparent color or, if it has none, the first color of the palette.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded, BoxError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    let limit = max_pixels.max(1).try_into().map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes);
    options.set_memory_limit(limit);
    let mut decoder = options.read_info(Cursor::new(bytes))?;
    let screen = (u32::from(decoder.width()), u32::from(decoder.height()));
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.next_frame_info()?.ok_or("the file has no image")?;
    let (left, top) = (u32::from(frame.left), u32::from(frame.top));
    let (w, h) = (u32::from(frame.width), u32::from(frame.height));
    let (width, height) = (screen.0.max(left + w), screen.1.max(top + h));
    within((width, height), max_pixels)?;
    let blank = frame.transparent.unwrap_or(0);
    let palette = frame.palette.clone().or(global);
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices)?;
    let mut canvas = vec![blank; width as usize * height as usize];
    for (row, from) in indices.chunks_exact((w as usize).max(1)).enumerate() {
        let at = (top as usize + row) * width as usize + left as usize;
        canvas[at..at + w as usize].copy_from_slice(from);
    }
    let palette = palette.ok_or("the file has no palette")?;
    let color =
        |i: u8| palette.chunks_exact(3).nth(i.into()).map_or([0; 3], |c| [c[0], c[1], c[2]]);
    let colors: Vec<[u8; 3]> = (0..=255).map(color).collect();
    let pixels = canvas.iter().flat_map(|i| colors[usize::from(*i)]).collect();
    let image = RgbImage::from_raw(width, height, pixels).ok_or("the decoder's size is wrong")?;
    Ok(Decoded { image: image.into(), orientation: None })
}

/// Returns the width and height of the canvas.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), BoxError> {
    let mut decoder = DecodeOptions::new().read_info(Cursor::new(bytes))?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    let frame = decoder.next_frame_info()?.ok_or("the file has no image")?;
    let (right, bottom) = (
        u32::from(frame.left) + u32::from(frame.width),
        u32::from(frame.top) + u32::from(frame.height),
    );
    Ok((width.max(right), height.max(bottom)))
}

/// Returns true if the file has its trailer after complete blocks.
pub(super) fn ended(bytes: &[u8]) -> bool {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 6 << (flags & 7) };
    let Some(&flags) = bytes.get(10) else { return false };
    let mut at = 13 + table(flags);
    loop {
        at += match bytes.get(at) {
            Some(0x3b) => return true,
            Some(0x21) => 2,
            Some(0x2c) => match bytes.get(at + 9) {
                Some(&flags) => 11 + table(flags),
                None => return false,
            },
            _ => return false,
        };
        // Sub-blocks of up to 255 bytes, ended by an empty one.
        loop {
            let Some(&length) = bytes.get(at) else { return false };
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
}

//! Repair of PNG files that lack their last chunks or have wrong checksums, if the pixels are complete.

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// A chunk: its type, and the part of its data that is in the file.
type Chunk<'a> = ([u8; 4], &'a [u8]);

/// Returns the chunks of a PNG file, and true if the file is complete: it has the last chunk, and no
/// chunk is truncated. Returns `None` for files of other formats.
pub(super) fn chunks(bytes: &[u8]) -> Option<(Vec<Chunk<'_>>, bool)> {
    let mut rest = bytes.strip_prefix(&SIGNATURE)?;
    let mut chunks = vec![];
    while let Some(([a, b, c, d], after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some((kind, data)) = after.split_first_chunk() else { break };
        let whole = data.len() >= length.saturating_add(4);
        chunks.push((*kind, &data[..length.min(data.len())]));
        if kind == b"IEND" || !whole {
            return Some((chunks, whole));
        }
        rest = &data[length + 4..];
    }
    Some((chunks, false))
}

/// Returns the file with a last chunk and correct checksums, for a second attempt. Pillow does not check
/// these checksums either; the compressed pixels have a checksum of their own.
pub(super) fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let (chunks, _) = chunks(bytes)?;
    let mut repaired = SIGNATURE.to_vec();
    let kept = [b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT"];
    let kept = |chunk: &&Chunk<'_>| kept.contains(&&chunk.0);
    for (kind, data) in chunks.iter().filter(kept).chain([&(*b"IEND", [].as_slice())]) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(kind);
        hasher.update(data);
        repaired.extend((data.len() as u32).to_be_bytes());
        repaired.extend(kind);
        repaired.extend(*data);
        repaired.extend(hasher.finalize().to_be_bytes());
    }
    Some(repaired)
}

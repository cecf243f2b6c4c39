//! Image files of every layout that a format allows, written by the tests: JPEG with all samplings,
//! scans and restart intervals, PNG, TIFF, BMP and GIF of every color type and depth.

use std::f64::consts::PI;

/// The order of the coefficients of a block in a file.
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The divisor of every coefficient.
const QUANTUM: f64 = 4.0;

/// The number of codes of each length in the DC table; all codes of the AC table have 8 bits.
const DC_LENGTHS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];

/// Returns luma or chroma of a smooth image at a position. Smooth images survive subsampling, so that
/// the decoded image can be compared with the original.
pub(crate) fn smooth(x: f64, y: f64, component: usize) -> f64 {
    match component {
        0 => 90.0 + 60.0 * (x / 40.0).sin() + 40.0 * (y / 30.0).cos(),
        1 => 120.0 + 40.0 * (x / 60.0 + 1.0).cos(),
        2 => 130.0 + 40.0 * (y / 50.0).sin(),
        _ => 200.0 - 30.0 * (x / 50.0).cos(),
    }
}

/// Returns the RGB pixels of the smooth image.
pub(crate) fn smooth_rgb(width: u32, height: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let [l, cb, cr] = [0, 1, 2].map(|c| smooth(x.into(), y.into(), c));
        let (cb, cr) = (cb - 128.0, cr - 128.0);
        [l + 1.402 * cr, l - 0.344_136 * cb - 0.714_136 * cr, l + 1.772 * cb]
            .map(|v| v.round() as u8)
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

/// One scan of a progressive file: components, first and last coefficient, and the numbers of low bits
/// that were missing before and after it.
pub(crate) type Scan<'a> = (&'a [usize], usize, usize, u8, u8);

/// The distribution of the blocks of a file over scans.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scans<'a> {
    /// One scan of all components.
    Interleaved,
    /// One scan per component.
    Separate,
    /// Progressive, with these scans.
    Progressive(&'a [Scan<'a>]),
}

/// Writes bits.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u64,
    n: u32,
}

impl Bits {
    fn put(&mut self, value: u32, n: u32) {
        if n == 0 {
            return;
        }
        self.held = (self.held << n) | u64::from(value & (u32::MAX >> (32 - n)));
        self.n += n;
        while self.n >= 8 {
            let byte = (self.held >> (self.n - 8)) as u8;
            self.bytes.push(byte);
            if byte == 0xff {
                self.bytes.push(0);
            }
            self.n -= 8;
        }
    }

    fn flush(&mut self) {
        if self.n > 0 {
            self.put(u32::MAX, 8 - self.n);
        }
        (self.held, self.n) = (0, 0);
    }

    /// Writes a symbol of the DC table.
    fn dc(&mut self, symbol: u32) {
        let (mut code, mut next) = (0, 0);
        for (length, count) in DC_LENGTHS.iter().enumerate() {
            for _ in 0..*count {
                if next == symbol {
                    return self.put(code, length as u32 + 1);
                }
                (code, next) = (code + 1, next + 1);
            }
            code <<= 1;
        }
    }

    /// Writes a symbol of the AC table.
    fn ac(&mut self, symbol: u8) {
        let place = ac_symbols().iter().position(|s| *s == symbol).unwrap();
        self.put(place as u32, 8);
    }

    /// Writes the bits of a value after its size.
    fn value(&mut self, v: i32, size: u32) {
        self.put((if v < 0 { v - 1 } else { v }) as u32, size);
    }
}

fn ac_symbols() -> Vec<u8> {
    let runs = (0..16u8).flat_map(|run| (1..=10u8).map(move |size| run << 4 | size));
    [0x00, 0xf0].into_iter().chain(runs).collect()
}

fn size_of(v: i32) -> u32 {
    32 - v.unsigned_abs().leading_zeros()
}

/// The quantized coefficients of a component, block by block, in the order of a file.
struct Plane {
    blocks: Vec<[i32; 64]>,
    /// The number of blocks per row, padded to whole units.
    across: usize,
    /// The numbers of blocks of the component without padding.
    own: (usize, usize),
    sampling: (usize, usize),
}

fn plane(c: usize, (w, h): (u32, u32), s: (u8, u8), most: (u8, u8)) -> Plane {
    let units = (
        (w as usize).div_ceil(8 * usize::from(most.0)),
        (h as usize).div_ceil(8 * usize::from(most.1)),
    );
    let sampling = (usize::from(s.0), usize::from(s.1));
    let scale = (f64::from(most.0) / f64::from(s.0), f64::from(most.1) / f64::from(s.1));
    let (across, down) = (units.0 * sampling.0, units.1 * sampling.1);
    let value = |x: usize, y: usize| {
        let at = |i: usize, scale: f64, n: u32| {
            ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, f64::from(n - 1))
        };
        smooth(at(x, scale.0, w), at(y, scale.1, h), c) - 128.0
    };
    let cosine = |u: usize, x: usize| {
        let norm = if u == 0 { (1.0f64 / 8.0).sqrt() } else { 0.5 };
        norm * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos()
    };
    let block = |bx: usize, by: usize| {
        let mut rows = [[0.0; 8]; 8];
        for (y, row) in rows.iter_mut().enumerate() {
            let pixels: [f64; 8] = std::array::from_fn(|x| value(bx * 8 + x, by * 8 + y));
            *row = std::array::from_fn(|u| (0..8).map(|x| cosine(u, x) * pixels[x]).sum());
        }
        ZIGZAG.map(|k| {
            let (v, u) = (k / 8, k % 8);
            let sum: f64 = (0..8).map(|y| cosine(v, y) * rows[y][u]).sum();
            (sum / QUANTUM).round() as i32
        })
    };
    let blocks = (0..down).flat_map(|y| (0..across).map(move |x| (x, y)));
    let side = |n: u32, s: u8, most: u8| {
        (n as usize * usize::from(s)).div_ceil(usize::from(most)).div_ceil(8)
    };
    let own = (side(w, s.0, most.0), side(h, s.1, most.1));
    Plane { blocks: blocks.map(|(x, y)| block(x, y)).collect(), across, own, sampling }
}

/// Writes a block of a scan.
fn write_block(bits: &mut Bits, block: &[i32; 64], scan: &Scan<'_>, last_dc: &mut i32) {
    let &(_, first, last, before, left) = scan;
    if first == 0 {
        if before > 0 {
            bits.put((block[0] >> left) as u32 & 1, 1);
        } else {
            let dc = block[0] >> left;
            let size = size_of(dc - *last_dc);
            bits.dc(size);
            bits.value(dc - *last_dc, size);
            *last_dc = dc;
        }
    }
    let (mut run, mut corrections) = (0u8, vec![]);
    // The last coefficient that becomes nonzero in this scan.
    let level = |k: usize| block[k].unsigned_abs() >> left;
    let end = (first.max(1)..=last).rev().find(|&k| level(k) == 1).unwrap_or(0);
    for (k, coefficient) in block.iter().enumerate().take(last + 1).skip(first.max(1)) {
        if level(k) == 0 {
            run += 1;
            continue;
        }
        while run > 15 && (before == 0 || k <= end) {
            bits.ac(0xf0);
            corrections.drain(..).for_each(|bit| bits.put(bit, 1));
            run -= 16;
        }
        let v = level(k) as i32 * coefficient.signum();
        if before > 0 && level(k) > 1 {
            corrections.push(level(k) & 1);
            continue;
        }
        let size = size_of(v);
        bits.ac(run << 4 | size as u8);
        bits.value(v, size);
        corrections.drain(..).for_each(|bit| bits.put(bit, 1));
        run = 0;
    }
    if last > 0 && (run > 0 || !corrections.is_empty()) {
        bits.ac(0);
        corrections.drain(..).for_each(|bit| bits.put(bit, 1));
    }
}

/// Writes the smooth image as a JPEG file with the sampling of each component, the scans, and the number
/// of units between restart markers, or 0.
pub(crate) fn jpeg(
    size: (u32, u32),
    sampling: &[(u8, u8)],
    scans: Scans<'_>,
    restart: u16,
) -> Vec<u8> {
    let n = sampling.len();
    let most =
        (sampling.iter().map(|s| s.0).max().unwrap(), sampling.iter().map(|s| s.1).max().unwrap());
    let planes: Vec<_> = (0..n).map(|c| plane(c, size, sampling[c], most)).collect();
    let mut file = vec![0xff, 0xd8];
    let segment = |marker: u8, body: &[u8]| {
        let mut bytes = vec![0xff, marker];
        bytes.extend((body.len() as u16 + 2).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    file.extend(segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"));
    file.extend(segment(0xdb, &[&[0][..], &[QUANTUM as u8; 64]].concat()));
    let mut frame = vec![8];
    frame.extend((size.1 as u16).to_be_bytes());
    frame.extend((size.0 as u16).to_be_bytes());
    frame.push(n as u8);
    for (c, s) in sampling.iter().enumerate() {
        frame.extend([c as u8 + 1, s.0 << 4 | s.1, 0]);
    }
    let start = if matches!(scans, Scans::Progressive(_)) { 0xc2 } else { 0xc0 };
    file.extend(segment(start, &frame));
    let symbols = ac_symbols();
    let mut lengths = [0; 16];
    lengths[7] = symbols.len() as u8;
    let dc: Vec<u8> = (0..12).collect();
    let tables: [&[u8]; 6] = [&[0], &DC_LENGTHS, &dc, &[0x10], &lengths, &symbols];
    file.extend(segment(0xc4, &tables.concat()));
    if restart > 0 {
        file.extend(segment(0xdd, &restart.to_be_bytes()));
    }
    let all: Vec<usize> = (0..n).collect();
    let each: Vec<[usize; 1]> = (0..n).map(|c| [c]).collect();
    let script: Vec<Scan<'_>> = match scans {
        Scans::Interleaved => vec![(&all, 0, 63, 0, 0)],
        Scans::Separate => each.iter().map(|c| (&c[..], 0, 63, 0, 0)).collect(),
        Scans::Progressive(script) => script.to_vec(),
    };
    for scan in &script {
        let mut head = vec![scan.0.len() as u8];
        scan.0.iter().for_each(|c| head.extend([*c as u8 + 1, 0]));
        head.extend([scan.1 as u8, scan.2 as u8, scan.3 << 4 | scan.4]);
        file.extend(segment(0xda, &head));
        let mut bits = Bits::default();
        let mut last_dc = vec![0; n];
        for (k, unit) in units(&planes, scan.0).into_iter().enumerate() {
            if restart > 0 && k > 0 && k % usize::from(restart) == 0 {
                bits.flush();
                bits.bytes.extend([0xff, 0xd0 + ((k / usize::from(restart) - 1) % 8) as u8]);
                last_dc.fill(0);
            }
            for (c, block) in unit {
                write_block(&mut bits, &planes[c].blocks[block], scan, &mut last_dc[c]);
            }
        }
        bits.flush();
        file.extend(bits.bytes);
    }
    file.extend([0xff, 0xd9]);
    file
}

/// Returns the blocks of each unit of a scan: with several components, their share of a unit; with one,
/// a single block.
fn units(planes: &[Plane], components: &[usize]) -> Vec<Vec<(usize, usize)>> {
    if let [c] = *components {
        let Plane { across, own, .. } = &planes[c];
        let blocks = (0..own.1).flat_map(|y| (0..own.0).map(move |x| y * across + x));
        return blocks.map(|block| vec![(c, block)]).collect();
    }
    let first = &planes[components[0]];
    let (wide, high) =
        (first.across / first.sampling.0, first.blocks.len() / first.across / first.sampling.1);
    let unit = |x: usize, y: usize| {
        let of = |&c: &usize| {
            let Plane { across, sampling: (h, v), .. } = &planes[c];
            let (across, h, v) = (*across, *h, *v);
            (0..v).flat_map(move |b| (0..h).map(move |a| (c, (y * v + b) * across + x * h + a)))
        };
        components.iter().flat_map(of).collect()
    };
    (0..high).flat_map(|y| (0..wide).map(move |x| (x, y))).map(|(x, y)| unit(x, y)).collect()
}

/// Returns the samples of a small image of pairwise different pixels, with `bits` bits per sample and
/// `channels` samples per pixel.
pub(crate) fn samples(width: u32, height: u32, channels: u32, bits: u32) -> Vec<u16> {
    let most = (1u32 << bits) - 1;
    let sample = |x: u32, y: u32, c: u32| (x * 37 + y * 91 + c * 53 + (x * y * 1009) % 4099) & most;
    let pixel = move |x, y| (0..channels).map(move |c| sample(x, y, c) as u16);
    (0..height).flat_map(move |y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

/// Packs rows of samples, each row into whole bytes, the upper bits first. 16-bit samples have the given
/// byte order.
pub(crate) fn packed(samples: &[u16], row: usize, bits: u32, little: bool) -> Vec<Vec<u8>> {
    let pack = |row: &[u16]| match bits {
        16 => row
            .iter()
            .flat_map(|v| if little { v.to_le_bytes() } else { v.to_be_bytes() })
            .collect(),
        bits => {
            let mut bytes = vec![0u8; (row.len() * bits as usize).div_ceil(8)];
            for (k, v) in row.iter().enumerate() {
                let bit = k * bits as usize;
                bytes[bit / 8] |= (*v as u8) << (8 - bits as usize - bit % 8);
            }
            bytes
        }
    };
    samples.chunks(row).map(pack).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// Returns bytes in zlib's format, without compression.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let pieces: Vec<_> = bytes.chunks(65535).collect();
    for (k, piece) in pieces.iter().enumerate() {
        out.push(u8::from(k + 1 == pieces.len()));
        out.extend((piece.len() as u16).to_le_bytes());
        out.extend((!(piece.len() as u16)).to_le_bytes());
        out.extend(*piece);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes(), &body[..], &crc32(&body).to_be_bytes()].concat()
}

/// Returns a PNG file from packed rows, with a color type, a depth and optionally a palette. The last
/// chunk can be omitted.
pub(crate) fn png(
    size: (u32, u32),
    color: u8,
    bits: u8,
    rows: &[Vec<u8>],
    palette: &[u8],
    end: bool,
) -> Vec<u8> {
    let head = [&size.0.to_be_bytes()[..], &size.1.to_be_bytes(), &[bits, color, 0, 0, 0]].concat();
    let filtered: Vec<u8> = rows.iter().flat_map(|row| [&[0], &row[..]].concat()).collect();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &head));
    if !palette.is_empty() {
        file.extend(chunk(b"PLTE", palette));
    }
    file.extend(chunk(b"IDAT", &stored(&filtered)));
    if end {
        file.extend(chunk(b"IEND", &[]));
    }
    file
}

/// Returns an uncompressed TIFF file, with its photometric interpretation (0 white is 0, 1 black is 0, 2
/// RGB, 3 palette, 5 CMYK, 6 YCbCr), the bits and number of samples, and the colors of a 16-bit palette.
pub(crate) fn tiff(
    size: (u32, u32),
    meaning: u16,
    (bits, channels): (u16, u16),
    rows: &[Vec<u8>],
    palette: &[u16],
    little: bool,
) -> Vec<u8> {
    let short = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
    let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
    let pixels: Vec<u8> = rows.concat();
    let colors: Vec<u8> = palette.iter().flat_map(|v| short(*v)).collect();
    let depths: Vec<u8> = (0..channels).flat_map(|_| short(bits)).collect();
    let at_depths = 8 + pixels.len() as u32;
    let at_colors = at_depths + depths.len() as u32;
    let at_directory = at_colors + colors.len() as u32;
    let mut entries: Vec<(u16, u16, u32, u32)> = vec![
        (256, 4, 1, size.0),
        (257, 4, 1, size.1),
        (258, 3, channels.into(), if channels > 2 { at_depths } else { 0 }),
        (259, 3, 1, 1),
        (262, 3, 1, meaning.into()),
        (273, 4, 1, 8),
        (277, 3, 1, channels.into()),
        (278, 4, 1, size.1),
        (279, 4, 1, pixels.len() as u32),
    ];
    if !palette.is_empty() {
        entries.push((320, 3, palette.len() as u32, at_colors));
    }
    // One more channel than colors is alpha.
    if (meaning <= 1 && channels == 2) || (meaning == 2 && channels == 4) {
        entries.push((338, 3, 1, 2));
    }
    if meaning == 6 {
        entries.push((530, 3, 2, 0));
    }
    let mut file = if little { b"II".to_vec() } else { b"MM".to_vec() };
    file.extend(short(42));
    file.extend(long(at_directory));
    file.extend(&pixels);
    file.extend(depths);
    file.extend(colors);
    file.extend(short(entries.len() as u16));
    for (tag, kind, n, value) in entries {
        file.extend(short(tag));
        file.extend(short(kind));
        file.extend(long(n));
        match (tag, kind, n) {
            (258, _, 1 | 2) => {
                file.extend([short(bits), short(if n == 2 { bits } else { 0 })].concat())
            }
            (530, ..) => file.extend([short(1), short(1)].concat()),
            (_, 3, 1) => file.extend([short(value as u16), short(0)].concat()),
            _ => file.extend(long(value)),
        }
    }
    file.extend(long(0));
    file
}

/// Returns a BMP file from the bottom row up: 1, 4 or 8 bits with a palette of blue, green, red and 0,
/// or 24 or 32 bits.
pub(crate) fn bmp(size: (u32, u32), bits: u16, rows: &[Vec<u8>], palette: &[u8]) -> Vec<u8> {
    let pad =
        |row: &Vec<u8>| [&row[..], &vec![0; row.len().next_multiple_of(4) - row.len()]].concat();
    let pixels: Vec<u8> = rows.iter().rev().flat_map(pad).collect();
    let begin = 54 + palette.len() as u32;
    let mut file = b"BM".to_vec();
    file.extend((begin + pixels.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(begin.to_le_bytes());
    file.extend(40u32.to_le_bytes());
    file.extend(size.0.to_le_bytes());
    file.extend(size.1.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend([0; 16]);
    file.extend((palette.len() as u32 / 4).to_le_bytes());
    file.extend([0; 4]);
    file.extend(palette);
    file.extend(pixels);
    file
}

/// Returns a GIF file: the screen size, and one frame with position, size, indices and a palette of 256
/// colors. The trailer can be omitted.
pub(crate) fn gif(
    screen: (u16, u16),
    (left, top, width, height): (u16, u16, u16, u16),
    indices: &[u8],
    palette: &[u8],
    transparent: Option<u8>,
    end: bool,
) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend([screen.0.to_le_bytes(), screen.1.to_le_bytes()].concat());
    file.extend([0xf7, 0, 0]);
    file.extend(palette);
    if let Some(index) = transparent {
        file.extend([0x21, 0xf9, 4, 1, 0, 0, index, 0]);
    }
    file.push(0x2c);
    [left, top, width, height].iter().for_each(|v| file.extend(v.to_le_bytes()));
    file.extend([0, 8]);
    // Codes of 9 bits: the table is cleared before codes get longer.
    let mut codes = vec![];
    for piece in indices.chunks(250) {
        codes.push(256);
        codes.extend(piece.iter().map(|i| u32::from(*i)));
    }
    codes.push(257);
    let (mut bytes, mut held, mut n) = (vec![], 0u32, 0);
    for code in codes {
        held |= code << n;
        n += 9;
        while n >= 8 {
            bytes.push(held as u8);
            (held, n) = (held >> 8, n - 8);
        }
    }
    bytes.push(held as u8);
    for piece in bytes.chunks(255) {
        file.push(piece.len() as u8);
        file.extend(piece);
    }
    file.push(0);
    if end {
        file.push(0x3b);
    }
    file
}

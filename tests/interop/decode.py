"""Writes image files of every layout into a folder, and for each the pixels that Pillow reads after EXIF orientation, as
NAME.rgb. There is none if Pillow rejects the file. Usage: decode.py PHOTO FOLDER"""

import io
import math
import os
import struct
import sys
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

warnings.simplefilter("ignore")
photo = Image.open(sys.argv[1]).convert("RGB")
folder = sys.argv[2]


def put(name, content):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)


def save(image, name, **options):
    image.save(os.path.join(folder, name), **options)


# ---------------------------------------------------------------- JPEG, by an encoder that writes any layout

ZIGZAG = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
          14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46,
          53, 60, 61, 54, 47, 55, 62, 63]
QUANTUM = 4
DC_LENGTHS = [0, 1, 5, 1, 1, 1, 1, 1, 1] + [0] * 7
DC_SYMBOLS = list(range(12))
AC_SYMBOLS = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]
AC_LENGTHS = [0] * 7 + [len(AC_SYMBOLS)] + [0] * 8
COSINE = np.array([[(math.sqrt(1 / 8) if u == 0 else 0.5) * math.cos((2 * x + 1) * u * math.pi / 16)
                    for x in range(8)] for u in range(8)])


def codes(lengths, symbols):
    found, code, symbols = {}, 0, iter(symbols)
    for length, count in enumerate(lengths, 1):
        for _ in range(count):
            found[next(symbols)] = (code, length)
            code += 1
        code <<= 1
    return found


DC, AC = codes(DC_LENGTHS, DC_SYMBOLS), codes(AC_LENGTHS, AC_SYMBOLS)


class Bits:
    def __init__(self):
        self.bytes, self.held, self.n = bytearray(), 0, 0

    def put(self, value, n):
        self.held = self.held << n | value & (1 << n) - 1
        self.n += n
        while self.n >= 8:
            byte = self.held >> self.n - 8 & 255
            self.bytes += bytes([byte, 0]) if byte == 255 else bytes([byte])
            self.n -= 8
        self.held &= (1 << self.n) - 1

    def flush(self):
        if self.n:
            self.put(-1, 8 - self.n)


def write_block(bits, block, first, last, before, left, dc):
    if first == 0:
        if before:
            bits.put(block[0] >> left & 1, 1)
        else:
            value = block[0] >> left
            difference, dc = value - dc, value
            size = abs(difference).bit_length()
            bits.put(*DC[size])
            bits.put(difference - (difference < 0), size)
    run, corrections = 0, []
    levels = [abs(v) >> left for v in block]
    end = max([k for k in range(max(first, 1), last + 1) if levels[k] == 1], default=0)
    for k in range(max(first, 1), last + 1):
        if levels[k] == 0:
            run += 1
            continue
        while run > 15 and (not before or k <= end):
            bits.put(*AC[0xF0])
            for bit in corrections:
                bits.put(bit, 1)
            corrections, run = [], run - 16
        if before and levels[k] > 1:
            corrections.append(levels[k] & 1)
            continue
        size = levels[k].bit_length()
        bits.put(*AC[run << 4 | size])
        bits.put(levels[k] if block[k] > 0 else -levels[k] - 1, size)
        for bit in corrections:
            bits.put(bit, 1)
        corrections, run = [], 0
    if last and (run or corrections):
        bits.put(*AC[0])
        for bit in corrections:
            bits.put(bit, 1)
    return dc


def jpeg(planes, sampling, script=None, restart=0, end=True, adobe=None, ids=None):
    """Encodes a JPEG file. `script` lists scans: components, first and last coefficient, and the low bits missing before
    and after the scan. Without it, all components are in one scan of a sequential file; "separate" makes one scan per
    component."""
    height, width = planes[0].shape
    hm, vm = max(h for h, _ in sampling), max(v for _, v in sampling)
    across, down = math.ceil(width / (8 * hm)), math.ceil(height / (8 * vm))
    blocks = []
    for plane, (h, v) in zip(planes, sampling):
        wide = np.pad(plane.astype(float), ((0, down * 8 * vm - height), (0, across * 8 * hm - width)), mode="edge")
        wide = np.repeat(np.repeat(wide, v, 0), h, 1)
        wide = wide.reshape(wide.shape[0] // vm, vm, wide.shape[1] // hm, hm).mean((1, 3))
        tiles = wide.reshape(wide.shape[0] // 8, 8, wide.shape[1] // 8, 8).transpose(0, 2, 1, 3) - 128
        found = np.rint(COSINE @ tiles @ COSINE.T / QUANTUM).astype(int)
        blocks.append(found.reshape(found.shape[0], found.shape[1], 64)[:, :, ZIGZAG].tolist())
    n = len(planes)
    ids = ids or list(range(1, n + 1))

    def segment(marker, body):
        return bytes([255, marker]) + struct.pack(">H", len(body) + 2) + body

    progressive = isinstance(script, list)
    out = b"\xff\xd8"
    out += segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") if adobe is None else \
        segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    out += segment(0xDB, bytes([0] + [QUANTUM] * 64))
    frame = b"".join(bytes([ids[i], h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    out += segment(0xC2 if progressive else 0xC0, struct.pack(">BHHB", 8, height, width, n) + frame)
    out += segment(0xC4, bytes([0] + DC_LENGTHS + DC_SYMBOLS + [0x10] + AC_LENGTHS + AC_SYMBOLS))
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    if script is None:
        script = [(range(n), 0, 63, 0, 0)]
    elif script == "separate":
        script = [([c], 0, 63, 0, 0) for c in range(n)]
    for components, first, last, before, left in script:
        components = list(components)
        out += segment(0xDA, bytes([len(components)]) + b"".join(bytes([ids[c], 0]) for c in components)
                       + bytes([first, last, before << 4 | left]))
        if len(components) == 1:
            [c] = components
            h, v = sampling[c]
            own = (math.ceil(math.ceil(width * h / hm) / 8), math.ceil(math.ceil(height * v / vm) / 8))
            units = [[(c, y, x)] for y in range(own[1]) for x in range(own[0])]
        else:
            units = [[(c, y * sampling[c][1] + b, x * sampling[c][0] + a) for c in components
                      for b in range(sampling[c][1]) for a in range(sampling[c][0])]
                     for y in range(down) for x in range(across)]
        bits, dc = Bits(), [0] * n
        for k, unit in enumerate(units):
            if restart and k and k % restart == 0:
                bits.flush()
                bits.bytes += bytes([255, 0xD0 + (k // restart - 1) % 8])
                dc = [0] * n
            for c, y, x in unit:
                dc[c] = write_block(bits, blocks[c][y][x], first, last, before, left, dc[c])
        bits.flush()
        out += bytes(bits.bytes)
    return out + (b"\xff\xd9" if end else b"")


SAMPLINGS = {
    "444": [(1, 1)] * 3, "422": [(2, 1), (1, 1), (1, 1)], "420": [(2, 2), (1, 1), (1, 1)],
    "440": [(1, 2), (1, 1), (1, 1)], "411": [(4, 1), (1, 1), (1, 1)], "410": [(4, 2), (1, 1), (1, 1)],
    "441": [(1, 4), (1, 1), (1, 1)], "311": [(3, 1), (1, 1), (1, 1)], "v3": [(1, 3), (1, 1), (1, 1)],
    "cb21": [(2, 2), (2, 1), (2, 1)], "mixed": [(2, 2), (2, 1), (1, 2)], "finer": [(1, 1), (2, 2), (2, 2)],
    "all22": [(2, 2)] * 3, "24": [(2, 4), (1, 1), (1, 1)], "cb12": [(2, 2), (1, 2), (1, 2)],
    "crbig": [(2, 1), (1, 1), (2, 1)],
}
SCRIPTS = {
    "bands": [([0, 1, 2], 0, 0, 0, 0), ([2], 1, 63, 0, 0), ([0], 1, 5, 0, 0), ([1], 1, 63, 0, 0), ([0], 6, 63, 0, 0)],
    "single": [([1], 0, 0, 0, 0), ([0], 0, 0, 0, 0), ([2], 0, 0, 0, 0)] + [([c], 1, 63, 0, 0) for c in range(3)],
    "steps": [([0, 1, 2], 0, 0, 0, 1), ([0], 1, 5, 0, 2), ([2], 1, 63, 0, 1), ([1], 1, 63, 0, 1), ([0], 6, 63, 0, 2),
              ([0], 1, 63, 2, 1), ([0, 1, 2], 0, 0, 1, 0), ([2], 1, 63, 1, 0), ([1], 1, 63, 1, 0), ([0], 1, 63, 1, 0)],
}


def ycc(size):
    return [np.asarray(c) for c in photo.resize(size, Image.BICUBIC).convert("YCbCr").split()]


for size in [(120, 90), (65, 65), (33, 47), (128, 128), (16, 17)]:
    planes = ycc(size)
    for name, sampling in SAMPLINGS.items():
        for scans, script in {"one": None, "each": "separate"}.items():
            for restart in (0, 3):
                put(f"j_{name}_{scans}_{restart}_{size[0]}x{size[1]}.jpg", jpeg(planes, sampling, script, restart))
    for name in ("444", "422", "420", "440", "cb21"):
        for kind, script in SCRIPTS.items():
            for restart in (0, 5):
                put(f"j_{name}_{kind}_{restart}_{size[0]}x{size[1]}.jpg", jpeg(planes, SAMPLINGS[name], script, restart))
planes = ycc((120, 90))
small = photo.resize((120, 90), Image.BICUBIC)
put("j_trailer.jpg", jpeg(planes, SAMPLINGS["420"]) + b"\0" * 500)
put("j_open_trailer.jpg", jpeg(planes, SAMPLINGS["420"], end=False) + b"SEFT" * 500)
put("j_open.jpg", jpeg(planes, SAMPLINGS["420"], end=False))
rgb = [np.asarray(c) for c in small.split()]
put("j_adobe_rgb.jpg", jpeg(rgb, SAMPLINGS["444"], adobe=0))
put("j_ids_rgb.jpg", jpeg(rgb, SAMPLINGS["444"], adobe=0, ids=[82, 71, 66]))
put("j_each_rgb.jpg", jpeg(rgb, SAMPLINGS["444"], "separate", adobe=0))
inks = [255 - np.asarray(c) for c in small.convert("CMYK").split()]
for kind, script in {"one": None, "each": "separate"}.items():
    put(f"j_gray_{kind}.jpg", jpeg([np.asarray(small.convert("L"))], [(2, 2)], script))
    put(f"j_cmyk_{kind}.jpg", jpeg(inks, [(1, 1)] * 4, script, adobe=0))
    put(f"j_cmyk_plain_{kind}.jpg", jpeg(inks, [(1, 1)] * 4, script))
    turned = Image.merge("RGB", [Image.fromarray(a.astype("uint8")) for a in inks[:3]]).convert("YCbCr")
    ycck = [np.asarray(c) for c in turned.split()] + [inks[3]]
    put(f"j_ycck_{kind}.jpg", jpeg(ycck, [(1, 1)] * 4, script, adobe=2))
    put(f"j_ycck420_{kind}.jpg", jpeg(ycck, [(2, 2), (1, 1), (1, 1), (2, 2)], script, adobe=2))
for width in (1, 2, 7, 8, 9, 15, 16, 17, 23, 31, 33, 40):
    for height in (1, 7, 8, 9, 16, 17, 25, 33):
        image = photo.resize((width, height), Image.BICUBIC)
        for subsampling in (0, 1, 2):
            for progressive in (False, True):
                save(image, f"p_{subsampling}_{int(progressive)}_{width}x{height}.jpg", quality=92,
                     subsampling=subsampling, progressive=progressive)
for restart in (1, 2, 3, 7, 13):
    for progressive in (False, True):
        save(small, f"p_restart{restart}_{int(progressive)}.jpg", restart_marker_blocks=restart, progressive=progressive)

# ---------------------------------------------------------------- PNG, TIFF, GIF, BMP, WebP

photo = photo.resize((96, 64))
gray = photo.convert("L")
black = gray.point(lambda v: v > 128 and 255).convert("1")
palette = photo.quantize(64)
alpha = photo.copy()
alpha.putalpha(Image.linear_gradient("L").resize((96, 64)))
deep = np.asarray(gray).astype(np.uint16) * 257


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits, color, rows, extra=(), end=True):
    head = struct.pack(">IIBBBBB", 96, 64, bits, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunk(*c) for c in extra) \
        + chunk(b"IDAT", pixels) + (chunk(b"IEND", b"") if end else b"")


for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x112] = orientation
    for kind, options in {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}, "tif": {}}.items():
        save(photo, f"turned{orientation}.{kind}", exif=exif, **options)
        if kind == "tif" and orientation < 5:
            # For quarter turns of palette images, Pillow 13 rotates the pixels but keeps the size.
            save(palette, f"turned_palette{orientation}.tif", exif=exif)
put("j_turned.jpg", open(os.path.join(folder, "turned6.jpg"), "rb").read())
for name, image in {"black": black, "gray": gray, "palette": palette, "rgb": photo, "rgba": alpha,
                    "la": alpha.convert("LA"), "gray16": Image.fromarray(deep)}.items():
    save(image, f"{name}.png")
for colors in (2, 4, 16, 256):
    save(photo.quantize(colors), f"palette{colors}.png")
    save(photo.quantize(colors), f"palette{colors}.gif")
    save(photo.quantize(colors), f"palette{colors}.bmp")
    save(photo.quantize(colors), f"palette{colors}.tif")
for bits in (2, 4):
    shades = np.asarray(gray) >> 8 - bits
    per = 8 // bits
    rows = [bytes(sum(int(row[x + k]) << 8 - bits * (k + 1) for k in range(per)) for x in range(0, 96, per)) for row in shades]
    put(f"gray{bits}.png", png(bits, 0, rows))
save(palette, "palette_clear.png", transparency=bytes(range(0, 256, 4)))
save(photo, "rgb_clear.png", transparency=photo.getpixel((3, 3)))
wide = [(row.astype(">u2") * 257).astype(">u2").tobytes() for row in np.asarray(photo)]
put("rgb16.png", png(16, 2, wide))
plain = [row.tobytes() for row in np.asarray(photo)]
put("open.png", png(8, 2, plain, end=False))
put("cut.png", png(8, 2, plain)[:-20])
put("half.png", png(8, 2, plain)[:2000])
put("trailer.png", png(8, 2, plain) + b"junk" * 100)
put("profile.png", png(8, 2, plain, [(b"iCCP", b"k\0\0notzlib")]))
damaged = bytearray(png(8, 2, plain))
damaged[damaged.find(b"IEND") - 8] ^= 1
put("sum.png", bytes(damaged))
for name, image in {"black": black, "gray": gray, "palette": palette, "rgb": photo, "rgba": alpha,
                    "cmyk": photo.convert("CMYK"), "ycc": photo.convert("YCbCr"), "la": alpha.convert("LA")}.items():
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4"):
        if (compression == "group4") == (name == "black") or compression != "group4":
            save(image, f"{name}_{compression}.tif", compression=compression)
save(photo, "rgb_jpeg.tif", compression="jpeg")
save(Image.fromarray(deep), "gray16.tif")
save(Image.fromarray(deep.astype(np.float32)), "float.tif")
save(Image.fromarray(deep.astype(np.int32)), "int32.tif")
save(photo, "several.tif", save_all=True, append_images=[ImageOps.mirror(photo)])
for name, image in {"black": black, "gray": gray, "rgb": photo, "rgba": alpha}.items():
    save(image, f"{name}.bmp")
save(photo, "moves.gif", save_all=True, append_images=[ImageOps.mirror(photo)], duration=50)
save(palette, "clear.gif", transparency=3)
save(gray, "gray.gif")
whole = open(os.path.join(folder, "palette256.gif"), "rb").read()
put("open.gif", whole[:-1])
put("half.gif", whole[:len(whole) // 2])
for screen in ((0, 0), (96, 0), (50, 40), (120, 80)):
    put(f"screen_{screen[0]}x{screen[1]}.gif", whole[:6] + struct.pack("<HH", *screen) + whole[10:])
for name, image in {"rgb": photo, "rgba": alpha}.items():
    save(image, f"{name}.webp", quality=90)
    save(image, f"{name}_lossless.webp", lossless=True, exact=True)
    save(image, f"{name}_moves.webp", save_all=True, append_images=[ImageOps.mirror(image)], lossless=True)
for name, image in {"rgb.ppm": photo, "gray.pgm": gray, "black.pbm": black, "rgb.ico": photo}.items():
    save(image, name)
buffer = io.BytesIO()
photo.save(buffer, "JPEG", quality=90)
jpg = buffer.getvalue()
put("half.jpg", jpg[:len(jpg) // 2])
put("last.jpg", jpg[:-3])
put("nothing.jpg", b"")
put("page.jpg", b"<!DOCTYPE html><html>404</html>")
put("no_pixels.ppm", b"P6\n0 0\n255\n")

# ---------------------------------------------------------------- The pixels that Pillow reads

for name in sorted(os.listdir(folder)):
    try:
        image = Image.open(os.path.join(folder, name))
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:
        continue
    put(name + ".rgb", struct.pack("<II", pixels.shape[1], pixels.shape[0]) + pixels.tobytes())

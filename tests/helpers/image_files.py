"""Image files of every kind: with the pixels wanted of them, or with what is to be told of them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
OTHER = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
GREY, ALPHA = RGB[..., 0], RGB[..., 1:2]
CMYK = RNG.integers(0, 256, (SIDE, SIDE, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (SIDE, SIDE, 3)).astype(np.uint16)
# Blocks of one colour, which JPEG keeps; no turn or mirror image of them is the same.
BLOCKS = np.kron(np.array([[40, 90], [160, 230]], np.uint8), np.ones((8, 8), np.uint8))


def encoded(pixels, kind, mode=None, turn=None, **options) -> bytes:
    """A file's content; pixels may be a list of pictures of an animation, or a Pillow image."""
    first, *rest = pixels if isinstance(pixels, list) else [pixels]
    images = [i if isinstance(i, Image.Image) else Image.fromarray(i) for i in (first, *rest)]
    images = [image.convert(mode) if mode else image for image in images]
    if rest:
        options |= {"save_all": True, "append_images": images[1:]}
    if turn:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = turn
    if kind == "JPEG":
        options = {"quality": 100, "subsampling": 0} | options
    file = io.BytesIO()
    images[0].save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int, bits: int, colours: int, rows: bytes) -> bytes:
    """A PNG by its specification, whatever it declares."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def deep_png() -> bytes:
    rows = DEEP.astype(">u2").view(np.uint8).reshape(SIDE, -1)
    return png(SIDE, SIDE, 16, 2, np.pad(rows, ((0, 0), (1, 0))).tobytes())


def clear_png() -> bytes:
    """16-bit greys, of which that of the first pixel is transparent."""
    greys = DEEP[..., 0].astype(">u2")
    rows = np.pad(greys.view(np.uint8).reshape(SIDE, -1), ((0, 0), (1, 0)))
    content, clear = png(SIDE, SIDE, 16, 0, rows.tobytes()), chunk(b"tRNS", greys[0, :1].tobytes())
    return content.replace(chunk(b"IEND", b""), clear + chunk(b"IEND", b"")).replace(
        content[33:-12] + clear, clear + content[33:-12]
    )


def tiff(bits: int, photometric: int, rows: bytes) -> bytes:
    """A TIFF of greys by its specification, uncompressed and little-endian."""
    tags = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 277: 1, 278: SIDE}
    tags |= {279: len(rows), 273: 8 + 2 + 12 * 9 + 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + rows


def in_12_bits(values: np.ndarray) -> bytes:
    """Rows of values below 4096, two in three bytes."""
    first, second = values.ravel()[::2].astype(int), values.ravel()[1::2].astype(int)
    three = (first >> 4, (first & 15) << 4 | second >> 8, second & 255)
    return np.stack(three, axis=1).astype(np.uint8).tobytes()


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, float)[..., None], 3, axis=-1)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = np.asarray(alpha, float) / 255
    return colours * share + 255 * (1 - share)


PALETTE = Image.fromarray(RGB).quantize(32)
INDICES = np.asarray(PALETTE)
COLOURS = np.array(PALETTE.getpalette()).reshape(-1, 3)
SHARES = np.arange(32) * 8
KEY = tuple(int(value) for value in RGB[3, 4])
JPEG = encoded(BLOCKS, "JPEG")
CMYK_BLOCKS = np.stack([BLOCKS, BLOCKS.T, 255 - BLOCKS, BLOCKS // 2], axis=-1)
INKS = np.asarray(CMYK_BLOCKS, float)
END = chunk(b"IEND", b"")
DAMAGED_EXIF = encoded(BLOCKS, "JPEG", turn=6).replace(b"Exif\0\0MM", b"Exif\0\0XX")

# By the file's name its content, its pixels, and by how much they may be off.
CONVERTED = {
    "colours.png": (encoded(RGB, "PNG"), RGB, 0),
    "colours.bmp": (encoded(RGB, "BMP"), RGB, 0),
    "colours.ppm": (encoded(RGB, "PPM"), RGB, 0),
    "colours.webp": (encoded(RGB, "WEBP", lossless=True), RGB, 0),
    "CAPITALS.PNG": (encoded(RGB, "PNG"), RGB, 0),
    "wrong suffix.jpg": (encoded(RGB, "PNG"), RGB, 0),
    "greys.png": (encoded(GREY, "PNG"), grey(GREY), 0),
    "greys.jpg": (JPEG, grey(BLOCKS), 1),
    "saved by a browser.jfif": (JPEG, grey(BLOCKS), 1),
    "rare.JPE": (JPEG, grey(BLOCKS), 1),
    "progressive.jpeg": (encoded(BLOCKS, "JPEG", progressive=True), grey(BLOCKS), 1),
    "black and white.png": (encoded(BLOCKS > 99, "PNG"), grey(BLOCKS > 99) * 255, 0),
    "palette.png": (encoded(PALETTE, "PNG"), COLOURS[INDICES], 0),
    "palette, one transparent.gif": (
        encoded(PALETTE, "GIF", transparency=5),
        on_white(COLOURS[INDICES], 255 * (INDICES != 5)[..., None]),
        0,
    ),
    "palette, shares.png": (
        encoded(PALETTE, "PNG", transparency=bytes(SHARES.tolist())),
        on_white(COLOURS[INDICES], SHARES[INDICES][..., None]),
        1,
    ),
    "greys and alpha.png": (
        encoded(RGB[..., :2], "PNG"),
        on_white(grey(GREY), ALPHA),
        1,
    ),
    "alpha.png": (encoded(np.dstack([OTHER, ALPHA]), "PNG"), on_white(OTHER, ALPHA), 1),
    "alpha.webp": (
        encoded(np.dstack([OTHER, 255 * (ALPHA > 99)]).astype(np.uint8), "WEBP", lossless=True),
        on_white(OTHER, 255 * (ALPHA > 99)),
        0,
    ),
    "key colour.png": (
        encoded(RGB, "PNG", transparency=KEY),
        on_white(RGB, 255 * (RGB != KEY).any(-1, keepdims=True)),
        0,
    ),
    "inks.tif": (
        encoded(Image.fromarray(CMYK, "CMYK"), "TIFF"),
        (255.0 - CMYK[..., :3]) * (255.0 - CMYK[..., 3:]) / 255,
        1,
    ),
    # Inverted in the file, as Adobe has it.
    "inks.jpg": (
        encoded(Image.fromarray(CMYK_BLOCKS, "CMYK"), "JPEG"),
        (255 - INKS[..., :3]) * (255 - INKS[..., 3:]) / 255,
        3,
    ),
    "16 bits.png": (encoded(DEEP[..., 0], "PNG"), grey(DEEP[..., 0] / 257), 0.5),
    "16 bits.tif": (encoded(DEEP[..., 0], "TIFF"), grey(DEEP[..., 0] / 257), 0.5),
    "16 bits, 0 is white.tif": (
        tiff(16, 0, DEEP[..., 0].astype("<u2").tobytes()),
        grey(255 - DEEP[..., 0] / 257),
        0.5,
    ),
    "12 bits.tif": (
        tiff(12, 1, in_12_bits(DEEP[..., 0] >> 4)),
        grey((DEEP[..., 0] >> 4) * (255 / 4095)),
        0.5,
    ),
    "16 bits.ppm": (
        f"P5 {SIDE} {SIDE} 65535\n".encode() + DEEP[..., 0].astype(">u2").tobytes(),
        grey(DEEP[..., 0] / 257),
        0.5,
    ),
    "16 bits, one clear.png": (
        clear_png(),
        grey(np.where(DEEP[..., 0] == DEEP[0, 0, 0], 255, DEEP[..., 0] / 257)),
        0.5,
    ),
    "16 bits of colours.png": (deep_png(), DEEP / 257, 1),
    # Of what moves or has pages the first.
    "moving.gif": (encoded([GREY, GREY.T], "GIF"), grey(GREY), 0),
    "moving.webp": (encoded([RGB, OTHER], "WEBP", lossless=True), RGB, 0),
    "moving.png": (encoded([RGB, OTHER], "PNG"), RGB, 0),
    "pages.tiff": (encoded([RGB, OTHER], "TIFF"), RGB, 0),
    # By EXIF's specification row 0 and column 0 are, from 1 on: top and left, top right, bottom
    # right, bottom left, left top, right top, right bottom, left bottom.
    "turn 2.jpg": (encoded(BLOCKS, "JPEG", turn=2), grey(BLOCKS[:, ::-1]), 1),
    "turn 3.jpg": (encoded(BLOCKS, "JPEG", turn=3), grey(BLOCKS[::-1, ::-1]), 1),
    "turn 4.jpg": (encoded(BLOCKS, "JPEG", turn=4), grey(BLOCKS[::-1]), 1),
    "turn 5.jpg": (encoded(BLOCKS, "JPEG", turn=5), grey(BLOCKS.T), 1),
    "turn 6.jpg": (encoded(BLOCKS, "JPEG", turn=6), grey(np.rot90(BLOCKS, -1)), 1),
    "turn 7.jpg": (encoded(BLOCKS, "JPEG", turn=7), grey(BLOCKS[::-1, ::-1].T), 1),
    "turn 8.jpg": (encoded(BLOCKS, "JPEG", turn=8), grey(np.rot90(BLOCKS)), 1),
    "turn 6.png": (encoded(RGB, "PNG", turn=6), np.rot90(RGB, -1), 0),
    "turn 6.tif": (encoded(RGB, "TIFF", turn=6), np.rot90(RGB, -1), 0),
    "turn 99.jpg": (encoded(BLOCKS, "JPEG", turn=99), grey(BLOCKS), 1),
    "damaged EXIF.jpg": (DAMAGED_EXIF, grey(BLOCKS), 1),
    "damaged EXIF.png": (
        encoded(RGB, "PNG").replace(END, chunk(b"eXIf", b"no EXIF!") + END),
        RGB,
        0,
    ),
    # The square in the centre.
    "wide.png": (
        encoded(np.full((1, 10_000), np.linspace(0, 250, 10_000), np.uint8), "PNG"),
        np.full((SIDE, SIDE, 3), 125.0),
        1,
    ),
    "high.png": (
        encoded(np.full((1, 10_000), np.linspace(0, 250, 10_000), np.uint8).T, "PNG"),
        np.full((SIDE, SIDE, 3), 125.0),
        1,
    ),
    "one pixel.png": (encoded(RGB[:1, :1], "PNG"), np.full((SIDE, SIDE, 3), RGB[0, 0]), 0),
}


COLOURS_PNG = CONVERTED["colours.png"][0]
FORMATS = "not an image in one of the formats PNG, JPEG"
BOMB = "more than 89478485 pixels (a decompression bomb)"
DEPTH = "got 32"
CUT = "truncated|broken data stream|could not create decoder object|unrecognized data stream"


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


# By the file's name its content and what is told of it.
REFUSED = {
    "empty.png": (b"", "the file is empty"),
    "garbage.jpg": (RNG.bytes(500), FORMATS),
    "text.png": (b"no picture", FORMATS),
    "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", FORMATS),
    "header.png": (changed(COLOURS_PNG, 1), FORMATS),
    "inside.png": (changed(COLOURS_PNG, len(COLOURS_PNG) // 2), CUT),
    **{f"cut.{kind}": (encoded(RGB, kind)[: SIDE * SIDE * share // 10], CUT)
       for kind, share in (("PNG", 15), ("JPEG", 35), ("BMP", 15), ("PPM", 15), ("TIFF", 15),
                           ("WEBP", 5), ("GIF", 35))},
    "bomb.png": (png(100_000, 100_000, 8, 2, b""), BOMB),
    "small bomb.png": (png(10_000, 10_000, 8, 2, b""), BOMB),
    "bomb.bmp": (encoded(RGB, "BMP").replace(struct.pack("<ii", SIDE, SIDE),
                                            struct.pack("<ii", 60_000, 60_000)), BOMB),
    "floats.tif": (encoded(GREY.astype(np.float32), "TIFF"), DEPTH),
    "32 bits.tif": (encoded(GREY.astype(np.int32), "TIFF"), DEPTH),
}  # fmt: skip


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder

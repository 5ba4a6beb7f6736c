"""Screenshots as small files: with 256 colours, which is what a page without photographs needs."""

import base64
import struct
import zlib

from playwright.async_api import Page

# The most frequent colours stay as they are; every other one, of the edge of a letter, becomes the nearest of them.
_PIXELS = """async picture => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob())
    const {width, height} = image, canvas = new OffscreenCanvas(width, height).getContext("2d")
    canvas.drawImage(image, 0, 0)
    const seen = new Uint32Array(canvas.getImageData(0, 0, width, height).data.buffer), counts = new Map()
    for (const colour of seen) counts.set(colour, (counts.get(colour) ?? 0) + 1)
    const palette = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, 256)
    const parts = colour => [colour & 255, colour >> 8 & 255, colour >> 16 & 255]
    const distance = (a, b) => parts(a).reduce((sum, part, place) => sum + (part - parts(b)[place]) ** 2, 0)
    const places = new Map(palette.map((colour, place) => [colour, place]))
    for (const colour of counts.keys())
        if (!places.has(colour))
            places.set(colour, palette.reduce((best, each, place) =>
                distance(colour, each) < distance(colour, palette[best]) ? place : best, 0))
    const pixels = [...seen].map(colour => String.fromCharCode(places.get(colour))).join("")
    return {width, height, palette: palette.flatMap(parts), pixels: btoa(pixels)}
}"""


async def small_png(blank: Page, picture: bytes) -> bytes:
    """`blank` is any page without a content security policy: its browser reads the picture."""
    read = await blank.evaluate(_PIXELS, base64.b64encode(picture).decode())
    width, pixels = read["width"], base64.b64decode(read["pixels"])
    rows = b"".join(b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    head = struct.pack(">IIBBBBB", width, read["height"], 8, 3, 0, 0, 0)
    chunks = [
        (b"IHDR", head),
        (b"PLTE", bytes(read["palette"])),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

"""Writes signs.ttf: a font of five signs, each a different triangle, for tests of fallback fonts. Needs fonttools."""
import sys
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
signs = "고양이猫😺"
names = [".notdef"] + [f"u{ord(c):04X}" for c in signs]
builder = FontBuilder(1000, isTTF=True)
builder.setupGlyphOrder(names)
builder.setupCharacterMap({ord(c): n for c, n in zip(signs, names[1:])})
glyphs = {}
for k, name in enumerate(names):
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0)); pen.lineTo((50 + 150 * k, 800)); pen.lineTo((900, 0)); pen.closePath()
    glyphs[name] = pen.glyph()
builder.setupGlyf(glyphs)
builder.setupHorizontalMetrics({name: (1000, 50) for name in names})
builder.setupHorizontalHeader(ascent=800, descent=-200)
builder.setupNameTable({"familyName": "Signs", "styleName": "Regular"})
builder.setupOS2(sTypoAscender=800, sTypoDescender=-200)
builder.setupPost()
builder.font["head"].created = builder.font["head"].modified = 0
builder.font.recalcTimestamp = False
builder.save(sys.argv[1])

"""Texts of many kinds, the same for the same seed, on which two tokenizers can disagree."""

from __future__ import annotations

import random
from collections.abc import Callable

SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "ascii": ((0x20, 0x7E),),
    "latin": ((0xC0, 0x24F),),
    "greek": ((0x391, 0x3C9),),
    "cyrillic": ((0x400, 0x45F),),
    "armenian": ((0x531, 0x556), (0x561, 0x586)),
    "hebrew": ((0x5D0, 0x5EA), (0x5B0, 0x5BC)),
    "arabic": ((0x621, 0x64A), (0x64B, 0x652), (0x660, 0x669)),
    "devanagari": ((0x901, 0x939), (0x93E, 0x94D), (0x966, 0x96F)),
    "bengali": ((0x985, 0x98C), (0x9BE, 0x9C4), (0x9E6, 0x9EF)),
    "tamil": ((0xB85, 0xB8A), (0xBBE, 0xBC2)),
    "thai": ((0xE01, 0xE3A), (0xE40, 0xE5B)),
    "georgian": ((0x10D0, 0x10F0),),
    "hangul": ((0xAC00, 0xD7A3), (0x1100, 0x1112)),
    "kana": ((0x3041, 0x3096), (0x30A1, 0x30FA)),
    "han": ((0x4E00, 0x9FA5), (0x3400, 0x3430), (0x20000, 0x20020)),
    "emoji": ((0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6C5), (0x2600, 0x26FF)),
    "marks": ((0x300, 0x36F), (0x1AB0, 0x1ABD), (0x20D0, 0x20F0)),
    "signs": ((0x2010, 0x2027), (0x2030, 0x205E), (0x3001, 0x3011), (0xFF01, 0xFF0F)),
    "numbers": ((0x30, 0x39), (0xB2, 0xB3), (0x2150, 0x218B), (0x2460, 0x249B), (0x1D7CE, 0x1D7FF)),
    "maths": ((0x2200, 0x22FF), (0x1D400, 0x1D433)),
    "controls": ((0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x200B, 0x200F), (0x202A, 0x202E),
                 (0x2060, 0x2064), (0xFEFF, 0xFEFF), (0xE000, 0xE010), (0xFFFC, 0xFFFD)),
    "blanks": ((0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680),
               (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x3000, 0x3000)),
}  # fmt: skip
"""Kind -> the code points that texts of it are made of."""

FIXED = (
    "", " ", "  ", "\n", "\t\n ", "a", "'", "''", "it's we'll they'RE I'd 'twas he'S",
    "naïve café Ångström", "nai\u0308ve cafe\u0301", "İstanbul ẞ ß ΣΑΣ ﬁ",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ☕️ 1️⃣", "a\u200db", "\ufeffhello", "hello\x00world", "tab\tand\r\nline",
    "x" * 99, "x" * 100, "x" * 101, "x" * 3000, "ab" * 700, "é" * 120, "日本語" * 60, "😀" * 130,
    "1234567890" * 20, "https://example.org/a_b?c=d&e=%2#f", "for (int i=0;i<9;i++) { a[i] *= 2; }",
    "   leading and trailing   ", "many     blanks\n\n\n\nand lines  \n x", "!!!???...---___***",
    "[CLS] in a text [SEP] and [MASK]x", "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>",
    "<|startoftranscript|><|notimestamps|> and so on", "<s> </s> <unk>", "[ MASK ] [mask]",
    "$1,234.56 + 7% = £8 ≠ €9", "½ ² ① Ⅷ ٣ ৩", "don’t “quote” – dash — and … dots", "ⅷ ǅ Ǆ ǆ",
)  # fmt: skip


def texts(count: int, seed: int) -> list[str]:
    """So many different texts: some fixed, the others words of one script or a mix of several."""
    rng = random.Random(seed)
    makers: tuple[Callable[[random.Random], str], ...] = (_of_one, _of_several, _of_any, _spaced)
    found = dict.fromkeys(FIXED)
    while len(found) < count:
        found[rng.choice(makers)(rng)] = None
    return list(found)[:count]


def _word(rng: random.Random, script: str, longest: int = 12) -> str:
    spans = SCRIPTS[script]
    return "".join(chr(rng.randint(*rng.choice(spans))) for _ in range(rng.randint(1, longest)))


def _of_one(rng: random.Random) -> str:
    script = rng.choice(list(SCRIPTS))
    return " ".join(_word(rng, script) for _ in range(rng.randint(1, 9)))


def _of_several(rng: random.Random) -> str:
    return " ".join(_word(rng, rng.choice(list(SCRIPTS)), 6) for _ in range(rng.randint(2, 9)))


def _of_any(rng: random.Random) -> str:
    return "".join(_word(rng, rng.choice(list(SCRIPTS)), 3) for _ in range(rng.randint(1, 14)))


def _spaced(rng: random.Random) -> str:
    parts = (_word(rng, rng.choice(("ascii", "latin", "numbers", "blanks")), 5) for _ in range(8))
    return "".join(
        p + rng.choice(("", " ", "  ", "\n", "\u00a0", "'s", "’s", "\t ")) for p in parts
    )

#!/usr/bin/env python3
"""Writes src/io/tokenizer/unicode_tables.inc: the Unicode data that a tokenizer's ids depend on.

The tables are frozen in the repository, so that ids never change with the version of a library that happens to be
installed. They follow what Hugging Face tokenizers uses: general categories of Unicode 16.0 in its regular expressions,
and canonical normalization of Unicode 9.0 in its NFC.

Run it only to follow a newer tokenizers, in a virtual environment of Python 3.11 (whose own data are Unicode 14.0) with:
pip install unicodedata2==16.0.0 tokenizers
"""
import pathlib
import unicodedata

import tokenizers
import unicodedata2
from tokenizers import normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(members):
    found = []
    for c in members:
        if found and c == found[-1][1] + 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def table(name, comment, members):
    lines = [f"// {comment}", f"constexpr CodePointRange {name}[] = {{"]
    row = "   "
    for first, last in ranges(members):
        cell = f" {{0x{first:X}, 0x{last:X}}},"
        if len(row) + len(cell) > 120:
            lines.append(row)
            row = "   "
        row += cell
    return "\n".join([*lines, row, "};\n"])


def general(prefix):
    return [c for c in CODE_POINTS if unicodedata2.category(chr(c)).startswith(prefix)]


def later(prefix):
    assert unicodedata.unidata_version == "14.0.0", "run this with Python 3.11"
    return [c for c in general(prefix) if unicodedata.category(chr(c)) == "Cn"]


def word():
    """Alphabetic, marks, decimal digits, connectors and joiners. Symbols that are Alphabetic: circled letters."""
    symbols = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)}
    return [c for c in CODE_POINTS if c in symbols or c in (0x200C, 0x200D)
            or unicodedata2.category(chr(c)) in ("Nd", "Nl", "Pc") or unicodedata2.category(chr(c))[0] in "LM"]


def check_classes(letters, numbers):
    """The pattern of tokenizers' ByteLevel must class every code point as the tables do."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    letters, numbers = set(letters), set(numbers)
    for c in CODE_POINTS:
        assert (len(split("a" + chr(c))) == 1) == (c in letters), hex(c)
        assert (len(split("1" + chr(c))) == 1) == (c in numbers), hex(c)


def later_than_nfc():
    """Code points on which NFC of Unicode 16.0 acts and tokenizers' NFC does not."""
    ours, theirs = lambda s: unicodedata2.normalize("NFC", s), normalizers.NFC().normalize_str
    found = set()
    for c in CODE_POINTS:
        for text in ("x\u0345" + chr(c), "x" + chr(c) + "\u0334"):
            if ours(text) != theirs(text):
                found.add(c)
        parts = unicodedata2.normalize("NFD", chr(c))
        if parts != chr(c) and theirs(parts) != ours(parts):
            found.update({c, *(ord(part) for part in parts if ord(part) >= 0x10000)})
    return sorted(found)


def main():
    letters, numbers = general("L"), general("N")
    check_classes(letters, numbers)
    out = pathlib.Path(__file__).parent.parent / "src/io/tokenizer/unicode_tables.inc"
    out.write_text("\n".join([
        "// Written by scripts/make-unicode-tables.py; do not edit.\n",
        table("kLetters", "General category L*, Unicode 16.0.", letters),
        table("kNumbers", "General category N*, Unicode 16.0.", numbers),
        table("kWord", "Word characters of Unicode Technical Standard 18, annex C, Unicode 16.0.", word()),
        table("kLaterLetters", "Letters added after Unicode 14.0.", later("L")),
        table("kLaterNumbers", "General category N*, added after Unicode 14.0.", later("N")),
        table("kLaterDigits", "General category Nd, added after Unicode 14.0.", later("Nd")),
        table("kLaterThanNfc", "Code points added after Unicode 9.0 on which canonical normalization acts.",
              later_than_nfc()),
    ]))
    print(f"{out}: Unicode {unicodedata2.unidata_version}, checked against tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()

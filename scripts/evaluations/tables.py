"""Markdown tables, and the part of a document that a script writes."""
import math
import sys


def rounded(value, error, sign=True):
    """A value with as many digits as its error has meaning."""
    digits = 3 if error is None or error <= 0 else max(1, min(4, 1 - math.floor(math.log10(error))))
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits}f}"


def lines_of(header, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def replace_file(path, text):
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text)
    partial.replace(path)


def write_between(path, begin, end, content):
    """Replaces what stands between two lines of a document; begins the document where there is none."""
    text = path.read_text() if path.exists() else f"{begin}\n{end}\n"
    if begin not in text or end not in text:
        sys.exit(f"{path}: holds no lines '{begin}' and '{end}' between which to write")
    head, rest = text.split(begin, 1)
    tail = rest.split(end, 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, f"{head}{begin}\n\n{content}\n\n{end}{tail}")

#!/usr/bin/env python3
"""Compares molt's tokenizer with Hugging Face tokenizers on random text: the ids and the decoded text must be equal.

Random strings mix words, digits, contractions, white space of all kinds, line breaks, control characters, code points of
all planes (unassigned ones too), combining marks, Hangul jamo, CJK, emoji sequences, whole and broken special tokens and
long runs. Beside the ids of each string, a random list of ids is decoded by both (mostly no valid UTF-8).

It stops at the first batch with a difference, prints the strings and the command that repeats it, and exits with 1.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 20_000
EXAMPLES = """examples:
  scripts/fuzz-tokenizer                                    a million strings for each tokenizer found
  scripts/fuzz-tokenizer --count 100000 --seed 7            fewer, others
  scripts/fuzz-tokenizer --tokenizer my/tokenizer.json      another tokenizer
  scripts/fuzz-tokenizer --variants --count 40000           the other features of tokenizer.json, put into the demo's
"""

WORDS = ("the of and to in a is that for it was on with as he be at by this had not are but from or have an they which one "
         "Hello WORLD don't I'll we've they're it's I'm he'd o'clock rock'n'roll naïve café Straße İstanbul ΑΒΓ привет "
         "state-space model selective_scan return def print(x) {} [] http://a.b/c?d=e&f=g #tag @name $9.99 50% C++ "
         "日本語 中文 한국어 ภาษาไทย हिन्दी العربية עברית").split(" ")
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\u00a0", "\u0085", "\u1680", "\u180e", "\u2000", "\u2003", "\u2009",
          "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\x1c", "\x1f"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'r", "'v", "'l", "'", "''", "’s", " 's", "'ſ"]
EMOJI = ["😀", "👩\u200d👩\u200d👧", "🏳️\u200d🌈", "👍🏽", "🇩🇪", "1️⃣", "❤️", "🧑\u200d🚀"]
MARKS = [*range(0x300, 0x370), *range(0x483, 0x488), *range(0x591, 0x5BE), *range(0x64B, 0x660), 0x93C, 0x94D, 0x9BE, 0x9D7,
         0xB3E, 0xB56, 0xB57, 0xC56, 0xCC2, 0xCD5, 0xCD6, 0xD3E, 0xD57, 0xDCF, 0xDDF, 0xF71, 0xF72, 0xF74, 0x102E, 0x1B35,
         *range(0x1AB0, 0x1ACF), *range(0x1DC0, 0x1E00), *range(0x20D0, 0x20F1), 0x3099, 0x309A, 0x11127, 0x1133E, 0x11930,
         0x1D165, 0x1D16D, 0x1E130, 0x1E08F, 0x16FF0, 0x10F46]
BASES = [*range(0x41, 0x5B), *range(0x61, 0x7B), *range(0xC0, 0x250), *range(0x370, 0x400), *range(0x400, 0x460),
         *range(0x1E00, 0x2000), *range(0x304B, 0x3070), 0x9C7, 0xB47, 0xBC6, 0xDD9, 0x1025, 0x11935, 0x105D2]
BLOCKS = [(0x1100, 0x1200), (0xAC00, 0xD7A4), (0x2126, 0x212C), (0xF900, 0xFB00), (0x2F800, 0x2FA20), (0x0, 0x20), (0x7F, 0xA0),
          (0x4E00, 0xA000), (0x3040, 0x3100), (0xFB00, 0xFE00), (0x2000, 0x2070), (0x900, 0xE00), (0x1D100, 0x1D800),
          (0x30000, 0x32000), (0xE000, 0xE100), (0xE0000, 0xE0200), (0x10FF00, 0x110000), (0xFFF0, 0x10000),
          (0x10D00, 0x11200), (0x16000, 0x17000), (0x1E000, 0x1F000), (0x2EBF0, 0x2EE60), (0xB0, 0x100), (0x2150, 0x2190)]


def any_code_point(rng):
    plane = rng.choice((0, 0, 0, 1, 1, 2, 3, 14, 15, 16, rng.randrange(17)))
    code = plane * 0x10000 + rng.randrange(0x10000)
    return chr(code) if not 0xD800 <= code < 0xE000 else "\ufffd"


def broken(rng, token):
    """A special token with something missing or doubled."""
    at = rng.randrange(len(token) + 1)
    return rng.choice((token[:at], token[at:], token[:at] + " " + token[at:], token[:at] + token[at + 1:], token + token[:at]))


def part(rng, specials):
    kind = rng.randrange(16)
    if kind <= 2:
        return rng.choice(("", " ", " ")) + rng.choice(WORDS)
    if kind == 3:
        return rng.choice(("", " ")) + str(rng.randrange(10 ** rng.randrange(1, 12)))
    if kind == 4:
        return rng.choice(CONTRACTIONS)
    if kind == 5:
        return "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 4)))
    if kind == 6:
        return " " * rng.choice((1, 2, 3, 4, 7, 8, 23, 24, 25, 26, 49, rng.randrange(100)))
    if kind == 7:
        return rng.choice(specials)
    if kind == 8:
        return broken(rng, rng.choice(specials))
    if kind == 9:
        return "".join(any_code_point(rng) for _ in range(rng.randrange(1, 4)))
    if kind == 10:
        return chr(rng.choice(BASES)) + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(1, 5)))
    if kind == 11:
        low, high = rng.choice(BLOCKS)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 6)))
    if kind == 12:
        return rng.choice(EMOJI)
    if kind == 13:
        return "".join(chr(rng.randrange(0x21, 0x7F)) for _ in range(rng.randrange(1, 8)))
    if kind == 14:
        return "".join(chr(rng.randrange(0x20)) if rng.random() < .3 else chr(rng.randrange(0x80)) for _ in range(3))
    return rng.choice((rng.choice("aA0 !\n=-_.\u0301é字"), rng.choice(WORDS))) * rng.randrange(1, 80 if rng.random() < .05 else 12)


def string(rng, specials):
    parts = 1 + min(int(rng.expovariate(.2)), 60)
    return "".join(part(rng, specials) for _ in range(parts))


def run_molt(arguments, lines):
    done = subprocess.run(arguments, input="\n".join(lines) + "\n", capture_output=True, text=True, encoding="utf-8")
    if done.returncode != 0:
        sys.exit(f"fuzz-tokenizer: {' '.join(map(str, arguments))} exits with {done.returncode}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]


def compare(reference, molt, path, specials, seed, batch, count):
    """The differences in one batch, as text."""
    rng = random.Random(f"{seed}/{batch}")
    strings = [string(rng, specials) for _ in range(count)]
    expected = [encoding.ids for encoding in reference.encode_batch(strings, add_special_tokens=False)]
    actual = [line["ids"] for line in run_molt([molt, "tokenize", path, "--json", "--json-input"],
                                               [json.dumps(text) for text in strings])]
    size = reference.get_vocab_size()
    lists = expected + [[rng.randrange(size) for _ in range(rng.randrange(1, 12))] for _ in range(count)]
    expected_texts = reference.decode_batch(lists, skip_special_tokens=False)
    actual_texts = [line["text"] for line in run_molt([molt, "tokenize", path, "--json", "--decode"],
                                                      [json.dumps({"ids": ids}) for ids in lists])]
    assert len(actual) == count and len(actual_texts) == 2 * count
    found = [f"string {json.dumps(text)}\n  tokenizers: {want}\n  molt:       {have}"
             for text, want, have in zip(strings, expected, actual) if want != have]
    found += [f"ids {ids}\n  tokenizers: {json.dumps(want)}\n  molt:       {json.dumps(have)}"
              for ids, want, have in zip(lists, expected_texts, actual_texts) if want != have]
    return found, sum(len(text.encode()) for text in strings)


def fuzz(path, name, arguments):
    reference = tokenizers.Tokenizer.from_file(str(path))
    reference.no_truncation()
    reference.no_padding()
    specials = sorted({token.content for token in reference.get_added_tokens_decoder().values()} | {"<|endoftext|>", "<|x|>"})
    done, volume, start = 0, 0, time.time()
    for batch in range(arguments.first_batch, arguments.first_batch + -(-arguments.count // BATCH)):
        count = min(BATCH, arguments.count - done)
        found, size = compare(reference, arguments.molt, path, specials, arguments.seed, batch, count)
        if found:
            print("\n".join(found[:arguments.show]))
            print(f"{name}: {len(found)} differences in batch {batch}; to repeat it:\n  scripts/fuzz-tokenizer --seed "
                  f"{arguments.seed} --first-batch {batch} --count {count} ({name})")
            return False
        done, volume = done + count, volume + size
        if sys.stderr.isatty():
            print(f"\r{name}: {done} strings agree", end="", file=sys.stderr, flush=True)
    print(f"{name}: {done} strings ({volume / 1e6:.1f} MB) and {done} random id lists agree with tokenizers "
          f"{tokenizers.__version__}, seed {arguments.seed}, {time.time() - start:.0f} s")
    return True


def variants(path):
    """(name, tokenizer.json) pairs that use what the file itself does not."""
    base = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}

    def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
        return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}

    def sequence(*members):
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*members, byte_level]}}

    def added(first, **flags):
        contents = ("<a>", "the", "xyz", "xy", "é", "  ", "\n", "o\u0323\u0302", "ab", "<|end")
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        there = {token["content"] for token in base["added_tokens"]}
        ids = dict(base["model"]["vocab"])
        contents = [content for content in contents if content not in there]
        for content in contents:
            ids.setdefault(content, first + sum(known >= first for known in ids.values()))
        return [*base["added_tokens"], *({"id": ids[content], "content": content, **plain, **flags} for content in contents)]

    # No two contents are alike when normalized: which of them tokenizers finds is left to its hash table.
    size = max(*base["model"]["vocab"].values(), *(token["id"] for token in base["added_tokens"])) + 1
    llama3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+")
    yield "prefix space", {"pre_tokenizer": {**byte_level, "use_regex": True, "add_prefix_space": True}}
    yield "prefix space after Split", sequence(split(r"\s+"))["pre_tokenizer"] and {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(r"\d"), {**byte_level, "add_prefix_space": True}]}}
    yield "no normalizer", {"normalizer": None}
    yield "sequence of normalizers", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}}
    yield "whole text", {"pre_tokenizer": byte_level}
    yield "Llama 3 pattern", sequence(split(llama3))
    yield "Llama 3 pattern, ignore_merges", {**sequence(split(llama3)), "model": {**base["model"], "ignore_merges": True}}
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"Split {behavior}, invert {invert}", sequence(split(r"\s|\d|e", behavior, invert))
    yield "Split with empty matches", sequence(split(r"\d*", "MergedWithPrevious"))
    yield "Split on a string", sequence(split(" t", "MergedWithNext", kind="String"))
    yield "two Splits", sequence(split(r"[^\S\n]+"), split(r"[A-Z][a-z]*|\n", "Contiguous"))
    for flags in ({}, {"normalized": True}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"special": True},
                  {"normalized": True, "lstrip": True, "rstrip": True, "single_word": True}):
        yield f"added tokens, {flags}", {"added_tokens": added(size, **flags)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, prog="fuzz-tokenizer",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", action="append", help="a tokenizer.json; may be given again (default: models/demo "
                        "and, where it is, ../shared/tokenizer/20B_tokenizer.json)")
    parser.add_argument("--count", type=int, default=1_000_000, help="strings for each tokenizer (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random strings (default %(default)s)")
    parser.add_argument("--first-batch", type=int, default=0, help=f"batches of {BATCH} strings to leave out")
    parser.add_argument("--variants", action="store_true", help="fuzz variants of each tokenizer instead of itself")
    parser.add_argument("--show", type=int, default=5, help="differences to print (default %(default)s)")
    parser.add_argument("--molt", default=ROOT / "build/release/bin/molt", help="the program (default %(default)s)")
    arguments = parser.parse_args()
    shared = ROOT.parent / "shared/tokenizer/20B_tokenizer.json"
    paths = arguments.tokenizer or [ROOT / "models/demo/tokenizer.json", *([shared] if shared.exists() else [])]
    agree = True
    for path in paths:
        if not arguments.variants:
            agree &= fuzz(path, os.path.relpath(path, ROOT), arguments)
            continue
        base = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        for name, changes in variants(path):
            with tempfile.TemporaryDirectory() as folder:
                variant = pathlib.Path(folder) / "tokenizer.json"
                variant.write_text(json.dumps({**base, **changes}), encoding="utf-8")
                agree &= fuzz(variant, f"{os.path.relpath(path, ROOT)}, {name}", arguments)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()

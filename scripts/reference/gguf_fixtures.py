"""Writes tests/fixtures/gguf: python gguf_fixtures.py FOLDER (needs PyPI's gguf and numpy).

blocks.gguf        two rows of random blocks of each element type, and beside each tensor T its values T.golden
                   as the `gguf` package dequantizes them
mamba.gguf         small random models of each architecture with a tokenizer, in different element types;
mamba2.gguf        NAME.golden.safetensors holds input_ids [T] and logits [T, tokens] in float32, computed in
falcon_mamba.gguf  float64 by gguf_reference.py
llama.gguf

With llama-cpp-python installed, the logits are checked beside llama.cpp's.
"""

import json
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import gguf_reference
import numpy as np

TYPES = gguf.GGMLQuantizationType
FLOATS = [TYPES.F32, TYPES.F16, TYPES.BF16]
SMALL = [TYPES.Q4_0, TYPES.Q4_1, TYPES.Q5_0, TYPES.Q5_1, TYPES.Q8_0, TYPES.IQ4_NL]
LARGE = [TYPES.Q2_K, TYPES.Q3_K, TYPES.Q4_K, TYPES.Q5_K, TYPES.Q6_K, TYPES.IQ4_XS]
# Where a block has half-precision floats: random bytes there could be infinite or NaN.
HALVES = {
    TYPES.Q4_0: [0], TYPES.Q4_1: [0, 2], TYPES.Q5_0: [0], TYPES.Q5_1: [0, 2], TYPES.Q8_0: [0],
    TYPES.IQ4_NL: [0], TYPES.Q2_K: [80, 82], TYPES.Q3_K: [108], TYPES.Q4_K: [0, 2],
    TYPES.Q5_K: [0, 2], TYPES.Q6_K: [208], TYPES.IQ4_XS: [0],
}  # fmt: skip
D_MODEL, LAYERS, TAPS = 64, 2, 4
LLAMA_CPP_TOLERANCE = 1e-5  # of the largest logit
TOKENS = 272


def random_blocks(random, kind, rows, blocks):
    """[rows, bytes] of random elements and scales; halves are of ordinary size."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = random.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    for at in HALVES[kind]:
        halves = random.normal(0, 0.1, (rows, blocks, 1)).astype(np.float16)
        data[:, :, at : at + 2] = halves.view(np.uint8)
    return data.reshape(rows, blocks * size)


def write_blocks(path):
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "test")
    for kind in FLOATS + SMALL + LARGE:
        name = kind.name.lower()
        if kind in FLOATS:
            data = gguf.quants.quantize(random.normal(0, 1, (2, 96)).astype(np.float32), kind)
        else:
            data = random_blocks(random, kind, 2, 3 if kind in SMALL else 1)
        writer.add_tensor(name, data, raw_dtype=kind)
        writer.add_tensor(name + ".golden", gguf.quants.dequantize(data, kind))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_alphabet():
    """GPT-2's printable character of each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (chr(0x100 + i) for i in range(68))
    return [chr(byte) if byte in plain else next(others) for byte in range(256)]


def add_tokenizer(writer, pre, count):
    """A special token, the bytes, a few merges, a token of spaces, and padding up to `count`."""
    merges = ["t h", "Ġ a", "th e", "Ġ the", "i n", "Ġ t", "1 2", "Ġ 1", "12 3", "Ġa n", "Ġan d"]
    tokens = ["<|endoftext|>", *byte_alphabet(), *(merge.replace(" ", "") for merge in merges), "   "]
    kinds = [gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(tokens) - 2), gguf.TokenType.USER_DEFINED]
    for i in range(len(tokens), count):
        tokens.append(f"[PAD{i}]")
        kinds.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


class Writer:
    """A random model; matrices in `kind`, all else in float32."""

    def __init__(self, path, architecture, kind, seed):
        self.gguf = gguf.GGUFWriter(path, architecture)
        self.kind = kind
        self.random = np.random.default_rng(seed)

    def matrix(self, name, rows, columns):
        values = self.random.normal(0, 1 / np.sqrt(columns), (rows, columns)).astype(np.float32)
        kind = self.kind if columns % gguf.GGML_QUANT_SIZES[self.kind][0] == 0 else TYPES.F32
        self.gguf.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def vector(self, name, values):
        self.gguf.add_tensor(name, np.ascontiguousarray(values, np.float32))

    def uniform(self, low, high, *shape):
        return self.random.uniform(low, high, shape)


def write_model(path, architecture, kind, *, tokens, state, rank, groups, norms, head, pre, seed):
    inner = 2 * D_MODEL
    wide = inner if architecture == "mamba" else inner + 2 * groups * state
    out = Writer(path, architecture, kind, seed)
    meta = out.gguf
    meta.add_context_length(2**20)
    meta.add_embedding_length(D_MODEL)
    meta.add_feed_forward_length(0)
    meta.add_head_count(0)
    meta.add_block_count(LAYERS)
    meta.add_ssm_conv_kernel(TAPS)
    meta.add_ssm_inner_size(inner)
    meta.add_ssm_state_size(state)
    meta.add_ssm_time_step_rank(rank)
    meta.add_layer_norm_rms_eps(1e-5)
    if architecture == "mamba":
        meta.add_ssm_dt_b_c_rms(norms)
    else:
        meta.add_ssm_group_count(groups)
    add_tokenizer(meta, pre, tokens)
    out.matrix("token_embd.weight", tokens, D_MODEL)
    if head:
        out.matrix("output.weight", tokens, D_MODEL)
    out.vector("output_norm.weight", out.uniform(0.5, 1.5, D_MODEL))
    for layer in range(LAYERS):
        b = f"blk.{layer}."
        out.vector(b + "attn_norm.weight", out.uniform(0.5, 1.5, D_MODEL))
        out.vector(b + "ssm_conv1d.weight", out.uniform(-0.5, 0.5, wide, TAPS))
        out.vector(b + "ssm_conv1d.bias", out.uniform(-0.5, 0.5, wide))
        out.matrix(b + "ssm_out.weight", D_MODEL, inner)
        if architecture == "mamba":
            out.matrix(b + "ssm_in.weight", 2 * inner, D_MODEL)
            out.matrix(b + "ssm_x.weight", rank + 2 * state, inner)
            out.matrix(b + "ssm_dt.weight", inner, rank)
            out.vector(b + "ssm_dt.bias", out.uniform(-4, 0, inner))
            out.vector(b + "ssm_a", -out.uniform(0.5, 8, inner, state))
            out.vector(b + "ssm_d", out.uniform(0.5, 1.5, inner))
        else:
            out.matrix(b + "ssm_in.weight", inner + wide + rank, D_MODEL)
            out.vector(b + "ssm_dt.bias", out.uniform(-4, 0, rank))
            out.vector(b + "ssm_a", -out.uniform(0.5, 8, rank, 1))
            out.vector(b + "ssm_d", out.uniform(0.5, 1.5, rank, 1))
            out.vector(b + "ssm_norm.weight", out.uniform(0.5, 1.5, groups, inner // groups))
    finish(meta)


def write_llama(path, kind, seed):
    """Grouped queries, a head of its own, factors of frequencies as Llama 3.1 has them, SmolLM's tokenizer."""
    heads, kv_heads, inner, width = 4, 2, 96, D_MODEL // 4
    out = Writer(path, "llama", kind, seed)
    meta = out.gguf
    meta.add_context_length(256)
    meta.add_embedding_length(D_MODEL)
    meta.add_feed_forward_length(inner)
    meta.add_head_count(heads)
    meta.add_head_count_kv(kv_heads)
    meta.add_block_count(LAYERS)
    meta.add_rope_dimension_count(width)
    meta.add_rope_freq_base(500.0)
    meta.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(meta, "smollm", TOKENS)
    out.matrix("token_embd.weight", TOKENS, D_MODEL)
    out.matrix("output.weight", TOKENS, D_MODEL)
    out.vector("output_norm.weight", out.uniform(0.5, 1.5, D_MODEL))
    out.vector("rope_freqs.weight", out.uniform(1.0, 8.0, width // 2))
    for layer in range(LAYERS):
        b = f"blk.{layer}."
        out.vector(b + "attn_norm.weight", out.uniform(0.5, 1.5, D_MODEL))
        out.vector(b + "ffn_norm.weight", out.uniform(0.5, 1.5, D_MODEL))
        out.matrix(b + "attn_q.weight", D_MODEL, D_MODEL)
        out.matrix(b + "attn_k.weight", kv_heads * width, D_MODEL)
        out.matrix(b + "attn_v.weight", kv_heads * width, D_MODEL)
        out.matrix(b + "attn_output.weight", D_MODEL, D_MODEL)
        out.matrix(b + "ffn_gate.weight", inner, D_MODEL)
        out.matrix(b + "ffn_up.weight", inner, D_MODEL)
        out.matrix(b + "ffn_down.weight", D_MODEL, inner)
    finish(meta)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    names = {np.dtype(np.int64): "I64", np.dtype(np.float32): "F32"}
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {"dtype": names[values.dtype], "shape": values.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(values).tobytes() for values in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def random_ids(tokens):
    return np.random.default_rng(3).integers(0, tokens, 20)


def write_golden(path, tokens):
    ids = random_ids(tokens)
    logits = gguf_reference.Model(path).logits(ids)
    golden = {"input_ids": ids.astype(np.int64), "logits": logits.astype(np.float32)}
    write_safetensors(path.with_suffix(".golden.safetensors"), golden)


def check_beside_llama_cpp(path, tokens):
    """Of a model in f32: with other weights llama.cpp rounds the activations too."""
    ids = random_ids(tokens)
    expected = gguf_reference.Model(path).logits(ids)[-1]
    try:
        difference = gguf_reference.compare_with_llama_cpp(path, ids.tolist(), expected)
    except ImportError:
        return
    print(f"{path.name} in f32: llama.cpp differs by {difference:.1e} of the largest logit")
    if not difference < LLAMA_CPP_TOLERANCE:
        sys.exit(f"{path.name}: that is more than {LLAMA_CPP_TOLERANCE}: the reference is wrong")


def write_checked(path, kind, write):
    """write(path, kind) and its golden, after a look at llama.cpp's logits of the same model in f32."""
    with tempfile.TemporaryDirectory() as temporary:
        exact = Path(temporary) / path.name
        write(exact, TYPES.F32)
        check_beside_llama_cpp(exact, TOKENS)
    write(path, kind)
    write_golden(path, TOKENS)


def main():
    folder = Path(sys.argv[1])
    write_blocks(folder / "blocks.gguf")
    plain = {"architecture": "mamba", "rank": 4, "groups": 1, "norms": False, "head": False}
    models = {
        "mamba": plain | {"kind": TYPES.F16, "pre": "olmo"},
        "mamba2": plain | {"architecture": "mamba2", "kind": TYPES.BF16, "rank": 8, "groups": 2, "pre": "gpt-2"},
        "falcon_mamba": plain | {"kind": TYPES.Q8_0, "norms": True, "head": True, "pre": "falcon"},
    }
    for seed, (name, model) in enumerate(models.items()):
        model |= {"tokens": TOKENS, "state": 16, "seed": seed}
        write_checked(folder / f"{name}.gguf", model.pop("kind"), lambda path, kind: write_model(path, kind=kind, **model))  # noqa: B023
    write_checked(folder / "llama.gguf", TYPES.Q4_1, lambda path, kind: write_llama(path, kind, seed=3))


if __name__ == "__main__":
    main()

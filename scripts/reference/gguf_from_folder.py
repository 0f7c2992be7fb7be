"""Writes a Hugging Face folder of a Mamba model as GGUF, by the conventions of llama.cpp's converter.

    python gguf_from_folder.py FOLDER OUT.gguf [--type f32|f16|bf16|q8_0|q4_k_m|...] [--pre olmo]

Needs PyPI's gguf and numpy; quantized types are made by llama-cpp-python's llama_model_quantize from an f32 file.
`--pre` names the tokenizer's split; llama.cpp's converter knows it for published tokenizers only.
"""

import argparse
import json
import os
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

KINDS = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
         "bf16": gguf.GGMLQuantizationType.BF16}  # fmt: skip
NAMES = {
    "backbone.embeddings": "token_embd", "backbone.norm_f": "output_norm", "lm_head": "output",
    "backbone.layers.": "blk.", ".mixer.in_proj": ".ssm_in", ".mixer.conv1d": ".ssm_conv1d",
    ".mixer.x_proj": ".ssm_x", ".mixer.dt_proj": ".ssm_dt", ".mixer.dt_bias": ".ssm_dt.bias",
    ".mixer.A_log": ".ssm_a", ".mixer.D": ".ssm_d", ".mixer.norm": ".ssm_norm",
    ".mixer.out_proj": ".ssm_out", ".norm.": ".attn_norm.",
}  # fmt: skip


def read_safetensors(path):
    """Name -> float32 array."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            wide = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
            values = wide.view(np.float32)
        else:
            values = np.frombuffer(data[begin:end], {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
        tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


def gguf_name(name):
    for part, here in NAMES.items():
        name = name.replace(part, here)
    return name


def add_tokenizer(writer, path, pre, count):
    tokenizer = json.loads(path.read_text())
    tokens = [f"[PAD{i}]" for i in range(count)]
    kinds = [gguf.TokenType.UNUSED] * count
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], kinds[i] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    )
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def write(folder, path, kind, pre):
    config = json.loads((folder / "config.json").read_text())
    mamba2 = config["model_type"] == "mamba2"
    inner = 2 * config["hidden_size"]
    writer = gguf.GGUFWriter(path, "mamba2" if mamba2 else "mamba")
    writer.add_context_length(2**20)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_ssm_conv_kernel(config["conv_kernel"])
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(config["state_size"])
    writer.add_ssm_time_step_rank(config["num_heads" if mamba2 else "time_step_rank"])
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    if mamba2:
        writer.add_ssm_group_count(config["n_groups"])
    else:
        writer.add_ssm_dt_b_c_rms(config["model_type"] == "falcon_mamba")
    add_tokenizer(writer, folder / "tokenizer.json", pre, config["vocab_size"])
    for name, values in read_safetensors(folder / "model.safetensors").items():
        here = gguf_name(name)
        if name.endswith("A_log"):
            values = -np.exp(values.astype(np.float64)).astype(np.float32)
        if name.endswith("conv1d.weight"):
            values = values[:, 0, :]
        if mamba2 and here.endswith(("ssm_a", "ssm_d")):
            values = values.reshape(-1, 1)
        if here.endswith("ssm_norm.weight"):
            values = values.reshape(config["n_groups"], -1)
        matrix = values.ndim == 2 and not here.endswith(("ssm_a", "ssm_d", "ssm_norm.weight", "ssm_conv1d.weight"))
        stored = kind if matrix else KINDS["f32"]
        writer.add_tensor(here, gguf.quants.quantize(np.ascontiguousarray(values), stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, path, file_type):
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + file_type.upper())
    if llama_cpp.llama_model_quantize(source.encode(), path.encode(), parameters) != 0:
        sys.exit(f"llama.cpp could not make {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out")
    parser.add_argument("--type", default="f32")
    parser.add_argument("--pre", default="olmo")
    arguments = parser.parse_args()
    if arguments.type in KINDS:
        write(arguments.folder, arguments.out, KINDS[arguments.type], arguments.pre)
        return
    exact = arguments.out + ".f32"
    write(arguments.folder, exact, KINDS["f32"], arguments.pre)
    quantize(exact, arguments.out, arguments.type)
    os.remove(exact)


if __name__ == "__main__":
    main()

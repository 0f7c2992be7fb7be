"""A GGUF file of a LLaMA model with the weights of a Hugging Face folder made from it (pruned, say), in float32.

    python llama_gguf_with_weights.py FILE.gguf FOLDER OUT.gguf

FOLDER is of the layout that llama_from_gguf.py writes. Rows of q and k go back into the file's order. Needs PyPI's gguf,
numpy, torch, safetensors.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from llama_from_gguf import LAYER_NAMES, TOP_NAMES
from safetensors.torch import load_file

VALUES = gguf.GGUFValueType


def copy_metadata(reader, writer):
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        if field.types[0] == VALUES.ARRAY:
            writer.add_array(key, field.contents())
        else:
            value = 0 if key == "general.file_type" else field.contents()  # 0: all in f32
            writer.add_key_value(key, value, field.types[0])


def name_in_folder(name):
    base, kind = name.rsplit(".", 1)
    if not base.startswith("blk."):
        return f"{TOP_NAMES[base]}.{kind}"
    _, layer, part = base.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def neighbours(rows, heads):
    """Rows of a projection whose pairs are half a head apart, as files have them: next to each other."""
    pairs = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    reader = gguf.GGUFReader(arguments.file)
    writer = gguf.GGUFWriter(arguments.out, "llama")
    copy_metadata(reader, writer)
    weights = load_file(arguments.folder / "model.safetensors")
    heads = {
        "attn_q": reader.get_field("llama.attention.head_count").contents(),
        "attn_k": reader.get_field("llama.attention.head_count_kv").contents(),
    }
    for tensor in reader.tensors:
        values = weights[name_in_folder(tensor.name)].to(torch.float32).numpy()
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = neighbours(values, heads[part])
        writer.add_tensor(tensor.name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()

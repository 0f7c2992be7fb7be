"""A Hugging Face folder from a GGUF file of a LLaMA model: python llama_from_gguf.py FILE.gguf FOLDER [--dtype bfloat16]

Weights are dequantized (float32 unless asked otherwise); rows of q and k go back into Hugging Face's order. Writes
config.json, model.safetensors and, for a byte-level BPE with SmolLM's or GPT-2's split, tokenizer.json. Reads models without
scaling of rotary positions. Needs PyPI's gguf, numpy, torch, safetensors, tokenizers.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL, USER_DEFINED = 3, 4  # types of tokens


class Metadata:
    def __init__(self, reader):
        self._reader = reader

    def get(self, key, default=None):
        field = self._reader.get_field(key)
        return default if field is None else field.contents()


def config_of(meta, tied):
    heads = meta.get("llama.attention.head_count")
    width = meta.get("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": meta.get("llama.feed_forward_length"),
        "num_hidden_layers": meta.get("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.get("llama.attention.head_count_kv", heads),
        "head_dim": meta.get("llama.attention.key_length", width // heads),
        "max_position_embeddings": meta.get("llama.context_length"),
        "rms_norm_eps": round(float(meta.get("llama.attention.layer_norm_rms_epsilon")), 12),
        "rope_theta": float(meta.get("llama.rope.freq_base", 10000.0)),
        "rope_scaling": None,
        "vocab_size": len(meta.get("tokenizer.ggml.tokens")),
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
    }


def halves_apart(rows, heads):
    """Rows of a projection whose pairs are neighbours, as Hugging Face has them: half a head apart."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def tensors_of(reader, config, dtype):
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        base, kind = tensor.name.rsplit(".", 1)
        if base.startswith("blk."):
            _, layer, part = base.split(".")
            if part in ("attn_q", "attn_k"):
                key = "num_attention_heads" if part == "attn_q" else "num_key_value_heads"
                values = halves_apart(values, config[key])
            name = f"model.layers.{layer}.{LAYER_NAMES[part]}"
        else:
            name = TOP_NAMES[base]
        tensors[f"{name}.{kind}"] = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
    return tensors


def tokenizer_of(meta):
    """The tokenizer, or None where its split is another."""
    pre = meta.get("tokenizer.ggml.pre")
    if meta.get("tokenizer.ggml.model") != "gpt2" or pre not in ("smollm", "gpt-2"):
        return None
    tokens, types = meta.get("tokenizer.ggml.tokens"), meta.get("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in meta.get("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if pre == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types):
        if kind in (CONTROL, USER_DEFINED):
            tokenizer.add_special_tokens([AddedToken(token, special=kind == CONTROL, normalized=False)])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    reader = gguf.GGUFReader(arguments.file)
    meta = Metadata(reader)
    if meta.get("general.architecture") != "llama":
        parser.error(f"{arguments.file}: general.architecture is {meta.get('general.architecture')}, not llama")
    scaled = meta.get("llama.rope.scaling.type", "none") != "none"
    if scaled or any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors):
        parser.error(f"{arguments.file}: its rotary positions are scaled")
    config = config_of(meta, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
    config["dtype"] = arguments.dtype
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = tensors_of(reader, config, getattr(torch, arguments.dtype))
    save_file(tensors, arguments.folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = tokenizer_of(meta)
    if tokenizer is not None:
        tokenizer.save(str(arguments.folder / "tokenizer.json"))


if __name__ == "__main__":
    main()

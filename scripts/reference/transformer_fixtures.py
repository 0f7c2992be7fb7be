"""Writes tests/fixtures/tiny/llama-* and opt-tiny: python transformer_fixtures.py FOLDER [NAME ...] (needs PyPI's torch,
transformers, safetensors).

Each folder is a small random LlamaForCausalLM or OPTForCausalLM with weights in bfloat16, and golden.safetensors, what
transformers makes of them in float32: input_ids [2, T], logits [2, T, tokens], generated = the greedy continuation of
the first half of row 0, hidden_1 = the residual stream after the first layer.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

LENGTH = 72  # more than a block of keys and values
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES = {
    # Grouped queries, a head of its own.
    "llama-gqa": {"num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    # Biases everywhere, heads that do not add up to the width, no groups, tied.
    "llama-bias": {
        "num_key_value_heads": 4,
        "head_dim": 12,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
    # Llama 3.1's scaling, one head of keys and values, several ends of text, as transformers 4 spelled it.
    "llama-llama3": {
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "eos_token_id": [5, 9],
        "rope_parameters": LLAMA3 | {"rope_theta": 10000.0},
    },
    # Linear scaling, short texts.
    "llama-linear": {
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    },
}
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "init_std": 0.2,
    "dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def randomize(model):
    """Gives biases and norms, which are initialised to zeros and ones, values that show; all in bfloat16's precision."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
        elif "norm" in name:
            parameter.data.normal_(1, 0.2)
        parameter.data = parameter.data.bfloat16().float()


def model_of(name):
    if name == "opt-tiny":
        return OPTForCausalLM(OPTConfig(**OPT))
    return LlamaForCausalLM(LlamaConfig(**(COMMON | CASES[name])))


def write(folder, name):
    torch.manual_seed(sum(name.encode()))
    model = model_of(name).eval()
    randomize(model)
    ids = torch.randint(0, COMMON["vocab_size"], (2, LENGTH))
    with torch.no_grad():
        out = model(ids, output_hidden_states=True, use_cache=False)
        text = ids[0, : LENGTH // 2].tolist()
        while len(text) < LENGTH:
            text.append(int(model(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
    model.bfloat16().save_pretrained(folder)
    golden = {
        "input_ids": ids,
        "logits": out.logits,
        "generated": torch.tensor(text),
        "hidden_1": out.hidden_states[1],
    }
    save_file({key: value.contiguous() for key, value in golden.items()}, folder / "golden.safetensors")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name == "llama-llama3":
        spell_as_before(folder / "config.json")


def spell_as_before(path):
    """Turns transformers 5's rope_parameters into transformers 4's rope_theta and rope_scaling."""
    config = json.loads(path.read_text())
    config.pop("rope_parameters", None)
    config |= {"rope_theta": 10000.0, "rope_scaling": LLAMA3}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main():
    torch.set_num_threads(1)
    for name in sys.argv[2:] or [*CASES, "opt-tiny"]:
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, name)


if __name__ == "__main__":
    main()

"""molt beside Hugging Face transformers, and llama.cpp, on a LLaMA model in float32.

    python llama_compare.py MOLT FOLDER TEXT [--tokens N] [--windows K] [--llama-cpp FILE.gguf] [--also MODEL ...]

MOLT is the program, FOLDER the model, TEXT a file of text. Compares the ids of the whole text (tokenizers); over its first K
windows of N tokens the logits of every position and the perplexity, which is also told of other MODELs of the same
vocabulary, as molt loads them; and the greedy continuation of the first half of the first window. FILE.gguf is the same
model in f32. Needs PyPI's torch, transformers, safetensors, tokenizers, and llama-cpp-python for its option.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

CONTINUED = 40  # tokens


def molt(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def molt_logits(program, model, ids, dtype):
    with tempfile.TemporaryDirectory() as temporary:
        given, out = Path(temporary) / "ids.txt", Path(temporary) / "logits.safetensors"
        given.write_text(" ".join(map(str, ids)))
        molt(program, "logits", model, "--ids-file", given, "--all", "--dtype", dtype, "--out", out)
        return load_file(out)["logits"].reshape(len(ids), -1)


def llama_cpp_of(path, tokens):
    """A function from ids to the logits of every position; keys and values in float32."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=tokens, n_batch=tokens, n_ubatch=tokens, logits_all=True, flash_attn=False, verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
    )  # fmt: skip

    def logits(ids):
        model.reset()
        model.eval(ids)
        return torch.tensor(model.scores[: len(ids)])

    return logits


def loss(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])).item()


def check_greedy(arguments, model, ids):
    half = len(ids) // 2
    text = model.generate(
        torch.tensor([ids[:half]]), max_new_tokens=CONTINUED, do_sample=False, eos_token_id=None
    )[0].tolist()
    own = molt_logits(arguments.molt, arguments.folder, text[:-1], "f32")[half - 1 :].argmax(-1).tolist()
    print(f"greedy continuation: {'equal' if own == text[half:] else 'NOT EQUAL'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molt")
    parser.add_argument("folder", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--also", action="append", default=[])
    arguments = parser.parse_args()
    text = arguments.text.read_text().replace("<|endoftext|>", "\n")
    ids = Tokenizer.from_file(str(arguments.folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    given = json.dumps(text) + "\n"
    command = [arguments.molt, "tokenize", arguments.folder, "--json", "--json-input"]
    ours = json.loads(subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout)["ids"]
    print(f"{len(ids)} ids: {'equal' if ids == ours else 'NOT EQUAL'}")

    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32).eval()
    peer = llama_cpp_of(arguments.llama_cpp, arguments.tokens) if arguments.llama_cpp else None
    largest, off = 0.0, {}
    losses = {}
    for window in range(arguments.windows):
        part = ids[window * arguments.tokens : (window + 1) * arguments.tokens]
        with torch.no_grad():
            expected = model(torch.tensor([part])).logits[0]
        logits = {"transformers": expected, "molt f32": molt_logits(arguments.molt, arguments.folder, part, "f32")}
        if peer:
            logits["llama.cpp"] = peer(part)
        largest = max(largest, expected.abs().max().item())
        for name, values in logits.items():
            off[name] = max(off.get(name, 0.0), (values - expected).abs().max().item())
        logits |= {other: molt_logits(arguments.molt, other, part, "auto") for other in arguments.also}
        for name, values in logits.items():
            losses.setdefault(name, []).append(loss(values, part))
    for name, difference in off.items():
        if name != "transformers":
            print(f"{name}: logits off by at most {difference / largest:.1e} of the largest, {largest:.3f}")
    for name, values in losses.items():
        print(f"{name}: perplexity {math.exp(sum(values) / len(values)):.4f}")
    check_greedy(arguments, model, ids[: arguments.tokens])


if __name__ == "__main__":
    main()

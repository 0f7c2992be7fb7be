"""molt beside Hugging Face transformers on a LLaMA folder, in float32: python llama_compare.py MOLT FOLDER TEXT [--tokens N]

MOLT is the program, TEXT a file of text. Compares ids (tokenizers), the logits of every position of the first N tokens,
and the greedy continuation of the first half of them. Needs PyPI's torch, transformers, safetensors, tokenizers.
"""

import argparse
import json
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


def molt_logits(arguments, ids):
    with tempfile.TemporaryDirectory() as temporary:
        given, out = Path(temporary) / "ids.txt", Path(temporary) / "logits.safetensors"
        given.write_text(" ".join(map(str, ids)))
        molt(arguments.molt, "logits", arguments.folder, "--ids-file", given, "--all", "--dtype", "f32", "--out", out)
        return load_file(out)["logits"].reshape(len(ids), -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molt")
    parser.add_argument("folder", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    arguments = parser.parse_args()
    text = arguments.text.read_text()
    ids = Tokenizer.from_file(str(arguments.folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    ours = json.loads(molt(arguments.molt, "tokenize", arguments.folder, "--text", text, "--json"))["ids"]
    print(f"{len(ids)} ids, {'equal' if ids == ours else 'NOT EQUAL'}")
    ids = ids[: arguments.tokens]
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
        greedy = model.generate(
            torch.tensor([ids[: len(ids) // 2]]), max_new_tokens=CONTINUED, do_sample=False, eos_token_id=None
        )[0].tolist()
    logits = molt_logits(arguments, ids)
    print(f"logits: largest {expected.abs().max():.3f}, off by at most {(logits - expected).abs().max():.2e}")
    losses = [
        torch.nn.functional.cross_entropy(values[:-1], torch.tensor(ids[1:])).item() for values in (expected, logits)
    ]
    print(f"nll a token: transformers {losses[0]:.6f}, molt {losses[1]:.6f}")
    own = molt_logits(arguments, greedy[:-1])[len(ids) // 2 - 1 :].argmax(-1).tolist()
    print(f"greedy: {'equal' if own == greedy[len(ids) // 2 :] else 'NOT EQUAL'}")


if __name__ == "__main__":
    main()

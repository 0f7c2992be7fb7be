"""Whether a pruned folder gives the same logits in Hugging Face transformers as in molt, and holds the zeros it claims.

    python pruned_in_transformers.py FOLDER [--molt build/release/bin/molt] [--text FILE] [--tokens 256]

Both run in float32 on the same ids; printed are the largest difference of any logit as a share of the largest one, and the
positions whose likeliest token differs. Exit code 1 beyond a share of 1e-3, or when pruning.json and the weights disagree.
Needs torch, transformers and safetensors. A folder with pytorch_model.bin (mamba_ssm), which transformers does not load, is
read by torch.load, and the archive's checksums are verified, instead.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--molt", type=pathlib.Path, default=ROOT / "build/release/bin/molt")
    parser.add_argument("--text", type=pathlib.Path, default=ROOT / "models/demo/page.txt")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--bound", type=float, default=1e-3)
    return parser.parse_args()


def weights_of(folder):
    """The tensors by name; of an archive of PyTorch with its checksums verified."""
    archive = folder / "pytorch_model.bin"
    if archive.exists():
        broken = zipfile.ZipFile(archive).testzip()
        if broken:
            sys.exit(f"{archive}: the checksum of {broken} is wrong")
        return torch.load(archive, map_location="cpu", weights_only=True)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def check_zeros(folder, weights):
    """Compares pruning.json with the weights."""
    described = json.loads((folder / "pruning.json").read_text())
    keep, of = map(int, described["pattern"].split(":")) if "pattern" in described else (0, 0)
    for matrix in described["matrices"]:
        weight = weights[matrix["name"]]
        zeros = int((weight == 0).sum())
        if list(weight.shape) != matrix["shape"] or zeros != matrix["zeros"]:
            sys.exit(f"{matrix['name']}: has {zeros} zeros in {list(weight.shape)}, pruning.json says {matrix}")
        if of:
            whole = weight.shape[1] // of * of
            kept = (weight[:, :whole].reshape(weight.shape[0], -1, of) != 0).sum(dim=2)
            if int(kept.max()) > keep:
                sys.exit(f"{matrix['name']}: keeps {int(kept.max())} of some {of} weights, not {keep}")
    print(f"{len(described['matrices'])} matrices hold the zeros that pruning.json claims")


def molt_logits(options, ids):
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/logits.safetensors"
        subprocess.run([options.molt, "logits", options.folder, "--ids", ",".join(map(str, ids)), "--all", "--dtype", "f32",
                        "--out", out], check=True, stderr=subprocess.DEVNULL)
        return load_file(out)["logits"].reshape(len(ids), -1)


def main():
    options = arguments()
    check_zeros(options.folder, weights_of(options.folder))
    if (options.folder / "pytorch_model.bin").exists():
        return
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32).eval()
    if (options.folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
        ids = tokenizer.encode(options.text.read_text(), add_special_tokens=False).ids[: options.tokens]
    else:
        ids = [(7 * i * i + 3 * i + 1) % model.config.vocab_size for i in range(options.tokens)]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].float()
    found = molt_logits(options, ids)
    share = ((expected - found).abs().max() / expected.abs().max()).item()
    differing = int((expected.argmax(dim=1) != found.argmax(dim=1)).sum())
    print(f"largest difference: {share:.1e} of the largest logit; likeliest token differs at {differing} of {len(ids)}")
    if not share <= options.bound:
        sys.exit(1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Log-probabilities by lm-evaluation-harness and Hugging Face transformers, to compare molt's evaluation with.

    pip install torch transformers lm-eval        (without mamba_ssm, so that transformers computes in plain PyTorch)
    lm_eval_goldens.py score MODEL_DIR OUT_DIR [TASK ...] [--data DIR] [--limit 200] [--articles 12]
    lm_eval_goldens.py join GOLDEN.json NAME=FOLDER ...
    lm_eval_goldens.py fields FIELDS.json OUT.json

score   runs tasks in float32 on the CPU and writes OUT_DIR/TASK.json: for each request the hash of its token ids and
        the sum of the log-probabilities; and the metrics.
join    puts what `score` wrote for several models into one file for the tests.
fields  has the harness ask questions in the published field names ({task: [document, ...]}) and writes what it asked.

What is the harness's own: the task definitions (its YAML files and Python functions), construction of requests, their
encoding, windows of running text, scoring through HFLM, the metrics. What is not: the data, which come from local files
rather than from the hub. Prepared files (HellaSwag's "query", ARC's "query") are taken apart into the published fields
where the definition begins from these (ARC), or enter behind the step that makes "query" (HellaSwag's process_docs).
"""
import argparse
import json
import pathlib
import sys
import tempfile

import torch
from lm_eval import utils as harness_utils
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = {
    "lambada_openai": "lambada_test_openai.jsonl",
    "hellaswag": "hellaswag_val.jsonl",
    "piqa": "piqa_valid.jsonl",
    "arc_easy": "arc_easy_test.jsonl",
    "arc_challenge": "arc_challenge_test.jsonl",
    "winogrande": "winogrande_xl_dev.jsonl",
    "wikitext": "wikitext2_raw_test.txt",
}


def wikitext_pages(text):
    """As the script behind the dataset EleutherAI/wikitext_document_level cuts the file: a title begins a page."""
    pages, lines = [], []
    for line in text.split("\n"):
        flat = line.replace("= = =", "===").replace("= =", "==").strip()
        if flat.startswith("= ") and flat.endswith(" ="):
            if "\n".join(lines).strip():
                pages.append("\n".join(lines))
            lines = []
        lines.append(line)
    return pages + ["\n".join(lines)]


def read_docs(task, folder, limit):
    """Local data in the fields that the harness's definition of the task begins from."""
    path = pathlib.Path(folder) / FILES[task]
    if task == "wikitext":
        return [{"page": page} for page in wikitext_pages(path.read_text(encoding="utf-8"))][:limit]
    docs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()][:limit]
    if task == "hellaswag":
        return [{**doc, "label": str(doc["gold"])} for doc in docs]
    if task == "piqa":
        labels = (path.parent / f"{path.stem}-labels.lst").read_text().split()
        return [{**doc, "label": int(label)} for doc, label in zip(docs, labels)]
    if task.startswith("arc"):
        letters = "ABCDEFGH"
        return [
            {
                "question": doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),
                "choices": {"text": doc["choices"], "label": list(letters[: len(doc["choices"])])},
                "answerKey": letters[doc["gold"]],
            }
            for doc in docs
        ]
    return docs


def make_task(name, docs, prepared):
    """The harness's task over `docs`. `prepared`: they are behind process_docs."""
    folder = pathlib.Path(harness_utils.__file__).parent / "tasks"
    sources = {
        "lambada_openai": ["lambada/lambada_openai.yaml"],
        "hellaswag": ["hellaswag/hellaswag.yaml"],
        "piqa": ["piqa/piqa.yaml"],
        "arc_easy": ["arc/arc_easy.yaml"],
        "arc_challenge": ["arc/arc_easy.yaml"],  # arc_challenge.yaml only names another part of the data set
        "winogrande": ["winogrande/default.yaml"],
        "wikitext": ["wikitext/wikitext.yaml"],
    }[name]
    config = load_config(folder / sources[0])
    split = config.get("test_split") or config["validation_split"]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8", delete=False) as file:
        for doc in docs:
            file.write(json.dumps(doc) + "\n")
    config.update(task=name, dataset_path="json", dataset_name=None, training_split=None, fewshot_split=split,
                  dataset_kwargs={"data_files": {split: file.name}})
    for other in ("validation_split", "test_split"):
        if config.get(other) != split:
            config[other] = None
    if prepared:
        config["process_docs"] = None
    task = ConfigurableTask(config=config)
    task.build_all_requests()
    return task


def load_config(path):
    try:
        from lm_eval.tasks._yaml_loader import load_yaml  # 0.4.10 and later
        config = load_yaml(path, resolve_func=True)
    except ImportError:
        config = harness_utils.load_yaml_config(yaml_path=str(path), mode="full")
    config = dict(config)
    for key in ("tag", "group", "include"):
        config.pop(key, None)
    return config


def fnv(ids):
    """FNV-1a, 64 bits, over ids as four bytes each, the lowest first."""
    value = 0xCBF29CE484222325
    for token in ids:
        for byte in (token & 0xFFFFFFFF).to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def request_hash(context, continuation):
    return f"{fnv(list(context) + [-1] + list(continuation)):016x}"


def encode(lm, instance):
    """Token ids of an instance by the harness: (context, continuation) pairs; several for running text."""
    if instance.request_type == "loglikelihood_rolling":
        windows = harness_utils.get_rolling_token_windows(
            token_list=lm.tok_encode(instance.args[0]), prefix_token=lm.prefix_token_id, max_seq_len=lm.max_length,
            context_len=1)
        return [harness_utils.make_disjoint_window(window) for window in windows]
    context, continuation = instance.args
    if context == "":
        return [([lm.prefix_token_id], lm.tok_encode(continuation))]
    return [lm._encode_pair(context, continuation)]


def aggregate(task, responses):
    """The metrics by the harness. `responses`: of each document, in the form that its model classes return."""
    values = {}
    for doc, results in responses:
        for metric, value in task.process_results(doc, results).items():
            values.setdefault(metric, []).append(value)
    aggregation = task.aggregation()
    return {metric: float(aggregation[metric](items)) for metric, items in values.items()}


def by_document(instances):
    groups = {}
    for instance in instances:
        groups.setdefault(instance.doc_id, []).append(instance)
    return [groups[key] for key in sorted(groups)]


def score(arguments):
    lm = HFLM(pretrained=arguments.model, dtype="float32", device="cpu", batch_size=arguments.batch, max_length=2048)
    for module in lm.model.modules():
        # Mamba-2 in plain PyTorch pads sequences to whole chunks and holds a matrix of chunk x chunk x heads x states:
        # with the usual 256 short questions take a hundred times longer. The length of chunks changes only rounding.
        if hasattr(module, "chunk_size"):
            module.chunk_size = arguments.chunk
    for name in arguments.tasks or FILES:
        limit = arguments.articles if name == "wikitext" else arguments.limit
        task = make_task(name, read_docs(name, arguments.data, limit), prepared=True)
        result = score_task(lm, name, task)
        write(pathlib.Path(arguments.out) / f"{name}.json", result)
        print(name, result["metrics"], flush=True)


def score_task(lm, name, task):
    instances = task.instances
    rolling = task.OUTPUT_TYPE == "loglikelihood_rolling"
    items, responses = [], []
    with torch.inference_mode():
        if rolling:
            # Window by window, as loglikelihood_rolling does it, to keep what each window yields.
            for group in by_document(instances):
                windows = encode(lm, group[0])
                sums = [lm._loglikelihood_tokens([(None, *window)], disable_tqdm=True)[0] for window in windows]
                items.append([[request_hash(*window), round(result[0], 6)] for window, result in zip(windows, sums)])
                responses.append((group[0].doc, [sum(result[0] for result in sums)]))
                print(name, len(items), file=sys.stderr, flush=True)
            whole = lm.loglikelihood_rolling(instances[:1], disable_tqdm=True)[0]
            assert abs(whole - responses[0][1][0]) < 1e-3 * max(1, abs(whole)) ** 0.5, (whole, responses[0][1])
        else:
            results = dict(zip(map(id, instances), lm.loglikelihood(instances, disable_tqdm=True)))
            for group in by_document(instances):
                items.append([[request_hash(*encode(lm, i)[0]), round(results[id(i)][0], 6)] for i in group])
                responses.append((group[0].doc, [results[id(i)] for i in group]))
    metrics = aggregate(task, [(doc, r if rolling or task.OUTPUT_TYPE != "loglikelihood" else [r[0]])
                               for doc, r in responses])
    return {"max_length": lm.max_length, "items": items, "metrics": metrics}


def fields(arguments):
    """What the harness asks for documents in the published field names."""
    result = {}
    for name, docs in json.loads(pathlib.Path(arguments.docs).read_text(encoding="utf-8")).items():
        task = make_task(name, docs, prepared=False)
        asked = []
        for group in by_document(task.instances):
            doc = group[0].doc
            entry = {"requests": [list(instance.args) for instance in group]}
            if task.OUTPUT_TYPE == "multiple_choice":
                gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
                entry["answer"] = int(gold)
            if name == "wikitext":
                results = task.process_results(doc, [-1.0])
                entry["words"], entry["bytes"] = results["word_perplexity"][1], results["byte_perplexity"][1]
            asked.append(entry)
        result[name] = {"docs": docs, "asked": asked}
    write(arguments.out, result, indent=1)


def join(arguments):
    import lm_eval
    import transformers

    models, tasks = {}, {}
    for entry in arguments.models:
        name, folder = entry.split("=", 1)
        models[name] = {p.stem: json.loads(p.read_text()) for p in sorted(pathlib.Path(folder).glob("*.json"))}
    for model, results in models.items():
        for task, result in results.items():
            entry = tasks.setdefault(task, {"max_length": result["max_length"], "hashes": [], "logprobs": {},
                                            "metrics": {}})
            hashes = [[request[0] for request in item] for item in result["items"]]
            assert entry["hashes"] in ([], hashes), task
            entry["hashes"] = hashes
            entry["logprobs"][model] = [[request[1] for request in item] for item in result["items"]]
            entry["metrics"][model] = result["metrics"]
    write(arguments.out, {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__,
                          "torch": torch.__version__, "tasks": tasks})


def write(path, value, indent=None):
    separators = None if indent else (",", ":")
    pathlib.Path(path).write_text(json.dumps(value, indent=indent, separators=separators, ensure_ascii=False) + "\n",
                                  encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    data = ROOT.parent / "shared/eval"
    command = commands.add_parser("score")
    command.add_argument("model")
    command.add_argument("out")
    command.add_argument("tasks", nargs="*", metavar="TASK")
    command.add_argument("--data", default=data)
    command.add_argument("--limit", type=int, default=200)
    command.add_argument("--articles", type=int, default=12, help="items of wikitext, which are long")
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--chunk", type=int, default=32)
    command.set_defaults(run=score)
    command = commands.add_parser("join")
    command.add_argument("out")
    command.add_argument("models", nargs="+")
    command.set_defaults(run=join)
    command = commands.add_parser("fields")
    command.add_argument("docs")
    command.add_argument("out")
    command.set_defaults(run=fields)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

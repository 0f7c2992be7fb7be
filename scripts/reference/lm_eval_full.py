#!/usr/bin/env python3
"""Whole benchmark sets by lm-evaluation-harness and Hugging Face transformers, computed on a GPU that has no harness.

    lm_eval_full.py ask    MODEL_DIR REQUESTS.npz [TASK ...]         needs lm-eval, transformers, torch
    lm_eval_full.py answer MODEL_DIR REQUESTS.npz ANSWERS.npz        needs transformers, torch and a GPU
    lm_eval_full.py judge  MODEL_DIR REQUESTS.npz ANSWERS.npz OUT_DIR [--limit N]    needs what `ask` needs
    lm_eval_full.py compare OUT_DIR MOLT.json                        needs nothing

ask      writes the token ids of every request that the harness makes of the local data.
answer   sums the log-probabilities of each, in float32, by transformers' plain PyTorch code.
judge    has the harness compute the metrics from these, and writes OUT_DIR/TASK.json as lm_eval_goldens.py score does.
compare  says where `molt eval --samples --out MOLT.json` answers another choice, and how far log-probabilities differ.
"""
import argparse
import json
import pathlib
import sys

import numpy

SAFE_TOKENS = 1 << 14  # of a batch, padding included


def harness():
    """What needs lm-eval."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import lm_eval_goldens
    return lm_eval_goldens


def tasks_of(goldens, arguments, names):
    for name in names:
        yield name, goldens.make_task(name, goldens.read_docs(name, arguments.data, arguments.limit), prepared=True)


def ask(arguments):
    goldens = harness()
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=arguments.model, dtype="float32", device="cpu", max_length=2048)
    ids, lengths, names = [], [], []
    for name, task in tasks_of(goldens, arguments, arguments.tasks or goldens.FILES):
        for group in goldens.by_document(task.instances):
            for instance in group:
                for context, continuation in goldens.encode(lm, instance):
                    context, continuation = list(context), list(continuation)
                    context = context[max(0, len(context) + len(continuation) - (lm.max_length + 1)):]
                    ids += context + continuation
                    lengths.append((len(context), len(continuation)))
        names.append((name, len(lengths)))  # the requests up to here
        print(name, len(lengths), len(ids), flush=True)
    numpy.savez_compressed(arguments.requests, ids=numpy.array(ids, numpy.uint16), lengths=numpy.array(lengths, numpy.int32),
                           tasks=numpy.array([name for name, _ in names]), ends=numpy.array([end for _, end in names]))


def requests_of(file):
    """[(context ids, continuation ids)] and {task: range of these}."""
    stored = numpy.load(file)
    ids, requests, at = stored["ids"].tolist(), [], 0
    for context, continuation in stored["lengths"].tolist():
        requests.append((ids[at:at + context], ids[at + context:at + context + continuation]))
        at += context + continuation
    starts = [0, *stored["ends"].tolist()]
    return requests, {str(name): range(*starts[i:i + 2]) for i, name in enumerate(stored["tasks"])}


def answer(arguments):
    import torch
    from transformers import AutoModelForCausalLM

    part, parts = arguments.part
    device = torch.device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).to(device).eval()
    for module in model.modules():
        if hasattr(module, "chunk_size"):
            module.chunk_size = 32  # see lm_eval_goldens.py
    requests, _ = requests_of(arguments.requests)
    order = sorted(range(part - 1, len(requests), parts), key=lambda i: -len(requests[i][0]) - len(requests[i][1]))
    sums, greedy = numpy.full(len(requests), numpy.nan), numpy.zeros(len(requests), bool)
    at = 0
    with torch.inference_mode():
        while at < len(order):
            longest = sum(map(len, requests[order[at]])) - 1
            batch = order[at:at + max(1, SAFE_TOKENS // longest)]
            at += len(batch)
            inputs = torch.zeros(len(batch), longest, dtype=torch.long)
            for row, i in enumerate(batch):
                whole = sum(requests[i], [])[:-1]
                inputs[row, :len(whole)] = torch.tensor(whole)  # padded behind, which a causal model does not see
            logits = model(input_ids=inputs.to(device), use_cache=False).logits
            for row, i in enumerate(batch):
                context, continuation = requests[i]
                of_row = logits[row, len(context) - 1:len(context) + len(continuation) - 1].float().log_softmax(-1)
                wanted = torch.tensor(continuation, device=device)
                sums[i] = of_row.gather(-1, wanted[:, None]).sum().item()
                greedy[i] = bool((of_row.argmax(-1) == wanted).all())
            print(f"{at}/{len(order)}", end="\r", file=sys.stderr, flush=True)
    numpy.savez_compressed(arguments.answers, sums=sums, greedy=greedy)


def answers_of(files):
    """Parts put together."""
    parts = [numpy.load(file) for file in files]
    sums = numpy.array([part["sums"] for part in parts])
    assert (numpy.isfinite(sums).sum(axis=0) == 1).all(), "every request must be answered in one part"
    return numpy.nansum(sums, axis=0), numpy.any([part["greedy"] for part in parts], axis=0)


def judge(arguments):
    goldens = harness()
    requests, tasks = requests_of(arguments.requests)
    sums, greedy = answers_of(arguments.answers)
    pathlib.Path(arguments.out).mkdir(parents=True, exist_ok=True)
    for name, task in tasks_of(goldens, arguments, tasks):
        indices, items, responses = iter(tasks[name]), [], []
        rolling = task.OUTPUT_TYPE == "loglikelihood_rolling"
        if rolling:
            from lm_eval.models.huggingface import HFLM
            lm = HFLM(pretrained=arguments.model, dtype="float32", device="cpu", max_length=2048)
        for group in goldens.by_document(task.instances):
            count = len(goldens.encode(lm, group[0])) if rolling else len(group)
            mine = [next(indices) for _ in range(count)]
            items.append([[goldens.request_hash(*requests[i]), round(float(sums[i]), 6)] for i in mine])
            results = [(float(sums[i]), bool(greedy[i])) for i in mine]
            if rolling:
                results = [sum(value for value, _ in results)]
            elif task.OUTPUT_TYPE == "loglikelihood":
                results = [results[0]]
            responses.append((group[0].doc, results))
        result = {"max_length": 2048, "items": items, "metrics": goldens.aggregate(task, responses)}
        goldens.write(pathlib.Path(arguments.out) / f"{name}.json", result)
        print(name, len(items), result["metrics"], flush=True)


def compare(arguments):
    """Prints a Markdown table, then the items that are answered otherwise."""
    molt = json.loads(pathlib.Path(arguments.molt).read_text(encoding="utf-8"))
    print("| task | items | requests | largest difference of log p | differing answers | the harness's metrics | molt's |")
    print("|---|---|---|---|---|---|---|")
    notes = []
    for task in molt["tasks"]:
        file = pathlib.Path(arguments.reference) / f"{task['task']}.json"
        if not file.exists():
            continue
        reference = json.loads(file.read_text(encoding="utf-8"))
        samples = task["samples"]
        assert [sample["item"] for sample in samples] == list(range(len(reference["items"]))), "not the same items"
        largest, requests, differing = 0.0, 0, 0
        for sample, item in zip(samples, reference["items"]):
            ours = [sum(score["logprobs"]) for score in sample["settings"]["dense"]["scores"]]
            theirs = [request[1] for request in item]
            assert len(ours) == len(theirs)
            requests += len(ours)
            largest = max(largest, *(abs(a - b) for a, b in zip(ours, theirs)))
            if len(ours) > 1 and task["task"] != "wikitext" and ours.index(max(ours)) != theirs.index(max(theirs)):
                differing += 1
                notes.append(f"{task['task']} {sample['item']}: {rounded(theirs)} by the harness, {rounded(ours)} by molt")
        figures = task["groups"][0]["settings"][0]["figures"]
        mine = {name: figure.get("perplexity", figure)["mean"] for name, figure in figures.items()}
        print(f"| {task['task']} | {len(samples)} | {requests} | {largest:.2g} | {differing} | {shown(reference['metrics'])} "
              f"| {shown(mine)} |")
    print("\n".join(["", *notes]))


def rounded(values):
    return ", ".join(f"{value:.5f}" for value in values)


def shown(metrics):
    return ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def add(name, run, *positionals):
        command = commands.add_parser(name)
        for positional in positionals:
            command.add_argument(positional)
        command.set_defaults(run=run)
        return command

    def add_data(command):
        command.add_argument("--data", default=pathlib.Path(__file__).resolve().parents[3] / "shared/eval")
        command.add_argument("--limit", type=int, help="documents of each task")

    command = add("ask", ask, "model", "requests")
    command.add_argument("tasks", nargs="*")
    add_data(command)
    command = add("answer", answer, "model", "requests", "answers")
    command.add_argument("--device", default="cuda")
    command.add_argument("--part", default=(1, 1), type=lambda text: tuple(map(int, text.split("/"))), metavar="K/N")
    command = add("judge", judge, "model", "requests")
    command.add_argument("answers", nargs="+")
    command.add_argument("out")
    add_data(command)
    add("compare", compare, "reference", "molt")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

"""The process that runs llama.cpp; runs inside the environment (needs llama_cpp).

    python -m peers.llama_worker MODEL.gguf

It loads the model once, then reads one command a line and answers each with one line of JSON:

    prefill TOKENS THREADS         a prompt from a fresh state, logits of its last token
    decode TOKENS THREADS PROMPT   one token after another after a prompt, logits of each
    info                           what was loaded

Timed is llama_decode and the wait for its result; not loading, not clearing the state, not the
choice of the next token. All goes through the C API as bound by llama-cpp-python. `cpu_seconds` is
the processor time of the timed part: less than seconds * threads means that others had the cores.
"""

import json
import random
import sys
import time

import llama_cpp

BATCH = 512  # llama.cpp's own default for a physical batch
WARNING_AND_ERROR = (3, 4)  # levels of ggml's log


@llama_cpp.llama_log_callback
def forward_errors(level, text, _user_data):
    if level in WARNING_AND_ERROR:
        sys.stderr.write(text.decode("utf-8", "replace"))


class Model:
    def __init__(self, path: str):
        llama_cpp.llama_log_set(forward_errors, None)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            sys.exit(f"llama.cpp could not load {path}")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = 1024
        parameters.n_batch = BATCH
        parameters.n_ubatch = BATCH
        parameters.n_seq_max = 1
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            sys.exit(f"llama.cpp could not make a context for {path}")
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._random = random.Random(1)

    def info(self) -> dict:
        return {
            "system": llama_cpp.llama_print_system_info().decode(),
            "version": llama_cpp.__version__,
            "model_bytes": llama_cpp.llama_model_size(self._model),
            "parameters": llama_cpp.llama_model_n_params(self._model),
        }

    def prefill(self, tokens: int, threads: int) -> dict:
        prompt = self._random_tokens(tokens)
        self._start(threads)
        return self._timed(tokens, lambda: self._evaluate_all(prompt))

    def decode(self, tokens: int, threads: int, prompt_tokens: int) -> dict:
        ids = [self._random_tokens(1) for _ in range(tokens)]
        self._start(threads)
        self._evaluate_all(self._random_tokens(prompt_tokens))

        def run():
            for token in ids:
                self._evaluate(token)

        return self._timed(tokens, run)

    def _start(self, threads: int) -> None:
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _random_tokens(self, count: int):
        return (llama_cpp.llama_token * count)(
            *(self._random.randrange(self._vocab) for _ in range(count))
        )

    def _evaluate_all(self, ids) -> None:
        for start in range(0, len(ids), BATCH):
            piece = ids[start : start + BATCH]
            self._evaluate((llama_cpp.llama_token * len(piece))(*piece))

    def _evaluate(self, ids) -> None:
        # A batch without a mask of outputs asks for the logits of its last token.
        code = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(ids, len(ids)))
        if code != 0:
            sys.exit(f"llama_decode failed with code {code}")
        llama_cpp.llama_synchronize(self._context)

    def _timed(self, tokens: int, run) -> dict:
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        if not all(abs(value) < 1e6 for value in logits[: self._vocab]):  # NaN fails too
            sys.exit("llama.cpp's logits are not ordinary numbers: its timing would mean nothing")
        return {"tokens_per_s": tokens / seconds, "seconds": seconds, "cpu_seconds": cpu_seconds}


def main() -> None:
    model = Model(sys.argv[1])
    for line in sys.stdin:
        command, *numbers = line.split()
        arguments = [int(number) for number in numbers]
        answer = getattr(model, command)(*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

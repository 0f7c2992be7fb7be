"""The side-by-side benchmark of molt and llama.cpp.

main          the command line and the order in which things run
shapes        the published model shapes
environment   the virtual environment with llama.cpp, and what this machine is
memory        the memory-read ceiling (memory_read.c, compiled at run time)
model_file    writes GGUF files of random weights       (runs inside the environment)
llama_worker  the process that runs llama.cpp           (runs inside the environment)
contenders    the two peers behind one interface: measure(threads) -> Rates
report        medians, ratios, the Markdown table and the JSON record

Everything but model_file and llama_worker needs the standard library alone.
"""

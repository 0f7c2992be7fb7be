"""Published figures of "Rethinking Token Reduction for State Space Models" (Zhan et al., EMNLP 2024, arXiv 2410.14725).

Perplexity on LAMBADA; accuracies in % on the six tasks in the order of TASKS; their mean. None: not published (or not
in this module's source). Nothing here was measured by us.
"""

TASKS = ("lambada_openai", "hellaswag", "piqa", "arc_easy", "arc_challenge", "winogrande")
ACCURACY = {"hellaswag": "acc_norm", "arc_challenge": "acc_norm"}  # the figure the paper gives; others: acc

# Model: (architecture, layers, width) as its configuration says.
MODELS = {
    "Mamba-2-1.3B": ("mamba2", 48, 2048),
    "Mamba-2-2.7B": ("mamba2", 64, 2560),
    "Mamba-1.4B": ("mamba", 48, 2048),
    "Mamba-2.8B": ("mamba", 64, 2560),
}

DENSE = {  # perplexity, mean, the six accuracies
    "Mamba-2-1.3B": (5.02, 59.5, (65.7, 59.9, 73.2, 64.3, 33.3, 60.9)),
    "Mamba-2-2.7B": (4.10, 63.8, (69.7, 66.6, 76.4, 69.6, 36.4, 64.0)),
    "Mamba-1.4B": (5.04, 59.7, (64.9, 59.1, 74.2, 65.5, 32.8, 61.5)),
    "Mamba-2.8B": (4.23, 63.3, (69.2, 66.1, 75.2, 69.7, 36.3, 63.5)),
}

MAIN = {  # model, method, cut: perplexity, mean of accuracies
    ("Mamba-2-1.3B", "pumer", 0.1): (532.52, 45.1), ("Mamba-2-1.3B", "evit", 0.1): (27.10, 51.9),
    ("Mamba-2-1.3B", "utr", 0.1): (11.16, 57.6),
    ("Mamba-2-1.3B", "pumer", 0.2): (49017, 37.1), ("Mamba-2-1.3B", "evit", 0.2): (1655.76, 44.2),
    ("Mamba-2-1.3B", "utr", 0.2): (25.94, 54.6),
    ("Mamba-2-2.7B", "pumer", 0.1): (712.73, 47.5), ("Mamba-2-2.7B", "evit", 0.1): (11.43, 55.4),
    ("Mamba-2-2.7B", "utr", 0.1): (8.55, 61.4),
    ("Mamba-2-2.7B", "pumer", 0.2): (7820, 39.7), ("Mamba-2-2.7B", "evit", 0.2): (196.42, 49.6),
    ("Mamba-2-2.7B", "utr", 0.2): (17.96, 58.7),
    ("Mamba-2-2.7B", "pumer", 0.3): (49301, 36.4), ("Mamba-2-2.7B", "evit", 0.3): (3412, 41.6),
    ("Mamba-2-2.7B", "utr", 0.3): (42.61, 54.7),
    ("Mamba-1.4B", "pumer", 0.1): (534.91, 44.1), ("Mamba-1.4B", "evit", 0.1): (43.69, 51.3),
    ("Mamba-1.4B", "utr", 0.1): (11.46, 57.8),
    ("Mamba-1.4B", "pumer", 0.2): (11733, 34.8), ("Mamba-1.4B", "evit", 0.2): (5687, 41.1),
    ("Mamba-1.4B", "utr", 0.2): (31.32, 53.4),
    ("Mamba-2.8B", "pumer", 0.1): (487.09, 47.1), ("Mamba-2.8B", "evit", 0.1): (174.92, 54.4),
    ("Mamba-2.8B", "utr", 0.1): (9.53, 61.3),
    ("Mamba-2.8B", "pumer", 0.2): (10746, 37.2), ("Mamba-2.8B", "evit", 0.2): (9784, 43.6),
    ("Mamba-2.8B", "utr", 0.2): (23.97, 57.6),
    ("Mamba-2.8B", "pumer", 0.3): (140763, 34.4), ("Mamba-2.8B", "evit", 0.3): (63230, 34.5),
    ("Mamba-2.8B", "utr", 0.3): (81.16, 49.6),
}

MAIN_TASKS = {  # the six accuracies of utr
    ("Mamba-2-1.3B", 0.1): (55.9, 59.2, 71.0, 64.3, 34.1, 61.0),
    ("Mamba-2-1.3B", 0.2): (46.1, 58.0, 64.3, 64.0, 34.4, 60.7),
    ("Mamba-2-2.7B", 0.1): (59.0, 66.1, 73.2, 69.4, 36.5, 64.0),
    ("Mamba-2-2.7B", 0.2): (49.1, 64.7, 68.2, 69.4, 37.5, 63.1),
    ("Mamba-2-2.7B", 0.3): (38.3, 59.4, 61.2, 68.4, 37.3, 63.9),
    ("Mamba-1.4B", 0.1): (56.5, 58.9, 71.3, 65.1, 33.9, 61.4),
    ("Mamba-1.4B", 0.2): (44.9, 57.7, 62.8, 62.8, 33.2, 59.0),
    ("Mamba-2.8B", 0.1): (59.9, 66.0, 72.0, 69.8, 36.7, 63.5),
    ("Mamba-2.8B", 0.2): (49.0, 63.8, 62.3, 68.5, 38.1, 64.0),
    ("Mamba-2.8B", 0.3): (36.1, 39.4, 58.1, 66.2, 37.1, 60.8),
}

LTMP = {  # model, cut: perplexity, mean of accuracies
    ("Mamba-2-2.7B", 0.1): (55.00, None), ("Mamba-2-2.7B", 0.2): (466.40, 48.5), ("Mamba-2-2.7B", 0.3): (4670.71, 41.3),
}

METRIC_CUT = 0.2
METRIC = {  # model, importance metric (signed: without clipping): perplexity, mean of accuracies
    ("Mamba-2-2.7B", "l1"): (17.96, 58.6), ("Mamba-2-2.7B", "l2"): (19.86, 58.6),
    ("Mamba-2-2.7B", "signed"): (18.17, 58.5), ("Mamba-2-2.7B", "clip"): (17.96, 58.7),
    ("Mamba-2.8B", "l1"): (23.93, 56.8), ("Mamba-2.8B", "l2"): (23.93, 57.5),
    ("Mamba-2.8B", "signed"): (1365.69, 40.7), ("Mamba-2.8B", "clip"): (23.97, 57.6),
}

BRANCH_CUT = 0.3
BRANCH = {  # model, hidden branch, residual branch: mean of accuracies
    ("Mamba-2-2.7B", "merge", "merge"): 54.0, ("Mamba-2-2.7B", "prune", "prune"): 53.9,
    ("Mamba-2-2.7B", "hybrid", "hybrid"): 53.7, ("Mamba-2-2.7B", "hybrid", "prune"): 54.1,
    ("Mamba-2-2.7B", "hybrid", "merge"): 54.7,
}

MEMORY_SETTING = "batch 96, 2048 tokens"
MEMORY = {  # model, cut: peak memory saved, %
    ("Mamba-2.8B", 0.1): 14.4, ("Mamba-2.8B", 0.2): 27.7, ("Mamba-2.8B", 0.3): 40.0,
    ("Mamba-2-2.7B", 0.1): 11.4, ("Mamba-2-2.7B", 0.2): 20.3, ("Mamba-2-2.7B", 0.3): 30.6,
    ("Mamba-1.4B", 0.1): 15.2, ("Mamba-1.4B", 0.2): 29.1, ("Mamba-1.4B", 0.3): 44.7,
    ("Mamba-2-1.3B", 0.1): 11.9, ("Mamba-2-1.3B", 0.2): 23.9, ("Mamba-2-1.3B", 0.3): 42.9,
}

THROUGHPUT_SETTING = "batch 16, 2048 tokens read, 100 generated"
THROUGHPUT = {  # model, cut: times dense
    ("Mamba-2.8B", 0.1): 1.07, ("Mamba-2.8B", 0.2): 1.17, ("Mamba-2.8B", 0.3): 1.29,
    ("Mamba-2-2.7B", 0.1): 1.10, ("Mamba-2-2.7B", 0.2): 1.22, ("Mamba-2-2.7B", 0.3): 1.37,
    ("Mamba-1.4B", 0.1): 1.08, ("Mamba-1.4B", 0.2): 1.15, ("Mamba-1.4B", 0.3): 1.26,
    ("Mamba-2-1.3B", 0.1): 1.10, ("Mamba-2-1.3B", 0.2): 1.19, ("Mamba-2-1.3B", 0.3): 1.35,
}


def name_of(architecture, layers, width):
    """The paper's model of that shape, or None."""
    return next((name for name, shape in MODELS.items() if shape == (architecture, layers, width)), None)

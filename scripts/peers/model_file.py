"""Writes GGUF files of random weights; runs inside the environment (needs gguf, numpy, llama_cpp).

    python -m peers.model_file write SHAPE FILE
    python -m peers.model_file quantize BF16_FILE FORMAT FILE

Speed does not depend on the weights' values as long as they are ordinary numbers, so each tensor
is drawn as the published models are initialised: activations stay of order one, decays stay inside
(0, 1), nothing becomes infinite, NaN or denormal.
"""

import os
import sys

import gguf
import numpy as np

from peers.shapes import D_CONV, GROUPS, SHAPES, Shape

DT_RANGE = (1e-3, 1e-1)  # the papers' range of initial time steps
MAMBA2_A_RANGE = (1.0, 16.0)
EPSILON = 1e-5


class RandomWriter:
    """Adds random tensors to a GGUF file: matrices in bfloat16, all else in float32."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int):
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        """[rows, columns], normal; a gain of one keeps the scale of the input."""
        values = self._random.standard_normal((rows, columns), dtype=np.float32)
        values *= np.float32(gain / np.sqrt(columns))
        kind = gguf.GGMLQuantizationType.BF16
        self._writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def vector(self, name: str, values: np.ndarray) -> None:
        self._writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        return self._random.uniform(low, high, shape)

    def dt_bias(self, count: int) -> np.ndarray:
        """softplus(bias) is log-uniform in DT_RANGE."""
        dt = np.exp(self.uniform(np.log(DT_RANGE[0]), np.log(DT_RANGE[1]), (count,)))
        return dt + np.log(-np.expm1(-dt))


def write_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(f"{shape.name}, random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(2**20)  # no limit of the model: the figure only has to be large
    writer.add_embedding_length(shape.d_model)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_ssm_conv_kernel(D_CONV)
    writer.add_ssm_inner_size(shape.d_inner)
    writer.add_ssm_state_size(shape.d_state)
    writer.add_ssm_time_step_rank(shape.dt_rank)
    if shape.family == "mamba2":
        writer.add_ssm_group_count(GROUPS)
    # Without a tokenizer llama.cpp takes the count of token ids from here.
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(shape.vocab)


def write_layer(out: RandomWriter, shape: Shape, layer: int) -> None:
    prefix = f"blk.{layer}."
    out.vector(prefix + "attn_norm.weight", np.ones(shape.d_model))
    for name, (rows, columns) in shape.matrices.items():
        # The residual stream sums all layers; this keeps it of order one.
        gain = 1.0 / np.sqrt(shape.layers) if name == "ssm_out" else 1.0
        out.matrix(f"{prefix}{name}.weight", rows, columns, gain)
    bound = 1.0 / np.sqrt(D_CONV)
    channels = shape.conv_channels
    out.vector(prefix + "ssm_conv1d.weight", out.uniform(-bound, bound, (channels, D_CONV)))
    out.vector(prefix + "ssm_conv1d.bias", out.uniform(-bound, bound, (channels,)))
    if shape.family == "mamba":
        out.vector(prefix + "ssm_dt.bias", out.dt_bias(shape.d_inner))
        states = np.arange(1, shape.d_state + 1)
        out.vector(prefix + "ssm_a", -np.tile(states, (shape.d_inner, 1)))
        out.vector(prefix + "ssm_d", np.ones(shape.d_inner))
    else:
        heads = shape.dt_rank
        out.vector(prefix + "ssm_dt.bias", out.dt_bias(heads))
        out.vector(prefix + "ssm_a", -out.uniform(*MAMBA2_A_RANGE, (heads, 1)))
        out.vector(prefix + "ssm_d", np.ones((heads, 1)))
        out.vector(prefix + "ssm_norm.weight", np.ones((GROUPS, shape.d_inner // GROUPS)))


def write(shape: Shape, path: str) -> None:
    """Writes the whole file under a temporary name first: a file that exists is complete."""
    unfinished = path + ".unfinished"
    writer = gguf.GGUFWriter(unfinished, shape.family)
    write_metadata(writer, shape)
    out = RandomWriter(writer, seed=1)
    out.matrix("token_embd.weight", shape.vocab, shape.d_model)
    out.vector("output_norm.weight", np.ones(shape.d_model))
    for layer in range(shape.layers):
        write_layer(out, shape, layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(unfinished, path)


def quantize(source: str, file_format: str, path: str) -> None:
    """Has llama.cpp quantize a bf16 file with its own defaults."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + file_format.upper())
    unfinished = path + ".unfinished"
    result = llama_cpp.llama_model_quantize(source.encode(), unfinished.encode(), parameters)
    if result != 0:
        sys.exit(f"llama.cpp could not quantize {source} to {file_format} (code {result})")
    os.replace(unfinished, path)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(SHAPES[sys.argv[2]], sys.argv[3])
    else:
        quantize(sys.argv[2], sys.argv[3], sys.argv[4])

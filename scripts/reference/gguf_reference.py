"""Mamba, Mamba-2, Falcon-Mamba and LLaMA of a GGUF file, token by token in float64: a plain reference.

    python gguf_reference.py FILE.gguf [--against-llama-cpp]

Weights are read and dequantized by the `gguf` package; nothing here is fast or clever. With
--against-llama-cpp the last logits of a few ids are compared with llama-cpp-python's on the same file.
"""

import sys

import gguf
import numpy as np


def silu(x):
    return x / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def rms_norm(x, weight, epsilon):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors
        }
        self.kind = reader.get_field("general.architecture").contents()
        get = lambda key, default=None: (  # noqa: E731
            default if reader.get_field(f"{self.kind}.{key}") is None
            else reader.get_field(f"{self.kind}.{key}").contents()
        )
        self.layers = get("block_count")
        self.epsilon = float(get("attention.layer_norm_rms_epsilon"))
        self.inner = get("ssm.inner_size")
        self.state = get("ssm.state_size")
        self.taps = get("ssm.conv_kernel")
        self.rank = get("ssm.time_step_rank")
        self.groups = get("ssm.group_count", 1)
        self.norms = bool(get("ssm.dt_b_c_rms", False))
        self.heads = get("attention.head_count", 0)
        self.kv_heads = get("attention.head_count_kv", self.heads)
        if self.kind == "llama":
            width = get("rope.dimension_count")
            self.frequencies = float(get("rope.freq_base", 10000.0)) ** (-np.arange(0, width, 2) / width)
            self.frequencies /= self.tensors.get("rope_freqs.weight", 1.0)

    def conv(self, weights, history, x):
        """One step of the causal convolution; `history` holds the last taps - 1 inputs."""
        history.append(x)
        recent = np.stack(history[-self.taps :], axis=-1)  # [C, up to taps]
        kernel = weights("ssm_conv1d.weight")[:, self.taps - recent.shape[-1] :]
        return silu((recent * kernel).sum(-1) + weights("ssm_conv1d.bias"))

    def mamba(self, weights, memory, x):
        x, z = np.split(weights("ssm_in.weight") @ x, 2)
        x = self.conv(weights, memory["conv"], x)
        dt, b, c = np.split(weights("ssm_x.weight") @ x, [self.rank, self.rank + self.state])
        if self.norms:
            dt, b, c = (rms_norm(v, 1.0, self.epsilon) for v in (dt, b, c))
        dt = softplus(weights("ssm_dt.weight") @ dt + weights("ssm_dt.bias"))
        decay = np.exp(dt[:, None] * weights("ssm_a"))  # [inner, state]
        memory["ssm"] = decay * memory["ssm"] + (dt * x)[:, None] * b[None, :]
        y = memory["ssm"] @ c + weights("ssm_d") * x
        return weights("ssm_out.weight") @ (y * silu(z))

    def mamba2(self, weights, memory, x):
        heads, size = self.rank, self.inner // self.rank
        wide = self.inner + 2 * self.groups * self.state
        z, xbc, dt = np.split(weights("ssm_in.weight") @ x, [self.inner, self.inner + wide])
        xbc = self.conv(weights, memory["conv"], xbc)
        x, b, c = np.split(xbc, [self.inner, self.inner + self.groups * self.state])
        x = x.reshape(heads, size)
        b, c = (np.repeat(v.reshape(self.groups, -1), heads // self.groups, axis=0) for v in (b, c))
        dt = softplus(dt + weights("ssm_dt.bias"))
        decay = np.exp(dt * weights("ssm_a").ravel())
        shape = (heads, size, self.state)
        memory["ssm"] = decay[:, None, None] * memory["ssm"].reshape(shape)
        memory["ssm"] = memory["ssm"] + (dt[:, None] * x)[:, :, None] * b[:, None, :]
        y = (memory["ssm"] * c[:, None, :]).sum(-1) + weights("ssm_d").reshape(heads, 1) * x
        y = (y.ravel() * silu(z)).reshape(self.groups, -1)
        y = rms_norm(y, weights("ssm_norm.weight").reshape(self.groups, -1), self.epsilon)
        return weights("ssm_out.weight") @ y.ravel()

    def turn(self, x, position):
        """Rotary positions of heads [H, P]: of pairs of neighbours."""
        angles = position * self.frequencies
        a, b = x[:, 0::2], x[:, 1::2]
        turned = np.empty_like(x)
        turned[:, 0::2] = a * np.cos(angles) - b * np.sin(angles)
        turned[:, 1::2] = b * np.cos(angles) + a * np.sin(angles)
        return turned

    def attention(self, weights, memory, x):
        position = len(memory["keys"])
        q, k, v = (weights(f"attn_{name}.weight") @ x for name in "qkv")
        q = self.turn(q.reshape(self.heads, -1), position)
        memory["keys"].append(self.turn(k.reshape(self.kv_heads, -1), position))
        memory["values"].append(v.reshape(self.kv_heads, -1))
        keys, values = np.stack(memory["keys"]), np.stack(memory["values"])  # [T, kv_heads, P]
        rows = []
        for head in range(self.heads):
            group = head // (self.heads // self.kv_heads)
            scores = keys[:, group] @ q[head] / np.sqrt(q.shape[1])
            shares = np.exp(scores - scores.max())
            rows.append(shares @ values[:, group] / shares.sum())
        return weights("attn_output.weight") @ np.concatenate(rows)

    def llama(self, weights, memory, residual):
        """A whole layer, residual stream in, residual stream out."""
        normed = rms_norm(residual, weights("attn_norm.weight"), self.epsilon)
        residual = residual + self.attention(weights, memory, normed)
        normed = rms_norm(residual, weights("ffn_norm.weight"), self.epsilon)
        up = silu(weights("ffn_gate.weight") @ normed) * (weights("ffn_up.weight") @ normed)
        return residual + weights("ffn_down.weight") @ up

    def mamba_layer(self, weights, memory, residual):
        block = self.mamba if self.kind == "mamba" else self.mamba2
        return residual + block(weights, memory, rms_norm(residual, weights("attn_norm.weight"), self.epsilon))

    def fresh_memory(self):
        if self.kind == "llama":
            return {"keys": [], "values": []}
        return {"conv": [], "ssm": np.zeros((self.inner, self.state))}

    def logits(self, ids):
        """[T, tokens]."""
        memories = [self.fresh_memory() for _ in range(self.layers)]
        run = self.llama if self.kind == "llama" else self.mamba_layer
        head = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        rows = []
        for token in ids:
            residual = self.tensors["token_embd.weight"][token]
            for layer, memory in enumerate(memories):
                weights = lambda name: self.tensors[f"blk.{layer}.{name}"]  # noqa: B023, E731
                residual = run(weights, memory, residual)
            rows.append(head @ rms_norm(residual, self.tensors["output_norm.weight"], self.epsilon))
        return np.array(rows)


def llama_cpp_logits(path, ids):
    """llama.cpp's logits of the last id."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = max(len(ids), 32)
    # Keys and values are rounded to half precision otherwise, as are sums in flash attention.
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, parameters)
    tokens = (llama_cpp.llama_token * len(ids))(*ids)  # the batch only points to them
    assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(ids))) == 0
    count = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    logits = np.array(llama_cpp.llama_get_logits_ith(context, -1)[:count])
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return logits


def compare_with_llama_cpp(path, ids, expected):
    """The largest difference of the last logits, as a share of the largest logit."""
    return np.abs(llama_cpp_logits(path, ids) - expected).max() / np.abs(expected).max()


if __name__ == "__main__":
    ids = [(7 * i + 3) % 90 for i in range(20)]
    expected = Model(sys.argv[1]).logits(ids)[-1]
    print(expected[:8])
    if "--against-llama-cpp" in sys.argv:
        print(f"llama.cpp differs by {compare_with_llama_cpp(sys.argv[1], ids, expected):.2e}")

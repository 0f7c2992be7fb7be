"""The shapes of the published Mamba and Mamba-2 checkpoints.

Sources: the configuration files of state-spaces/mamba-* and state-spaces/mamba2-* and, for what
these leave out, the defaults of the papers (Gu and Dao 2023, Dao and Gu 2024): d_inner = 2 d_model,
d_conv 4; Mamba d_state 16, dt_rank = d_model / 16; Mamba-2 d_state 128, head size 64, one group.
"""

from dataclasses import dataclass

D_CONV = 4
HEAD_SIZE = 64  # Mamba-2
GROUPS = 1  # Mamba-2


@dataclass(frozen=True)
class Shape:
    """One model's sizes. The embedding and the output head share one matrix."""

    name: str
    family: str  # "mamba" or "mamba2", as llama.cpp names the architectures
    d_model: int
    layers: int

    @property
    def d_inner(self) -> int:
        return 2 * self.d_model

    @property
    def d_state(self) -> int:
        return 16 if self.family == "mamba" else 128

    @property
    def dt_rank(self) -> int:
        """The rank of the dt projection; for Mamba-2, as in GGUF, the number of heads."""
        return self.d_model // 16 if self.family == "mamba" else self.d_inner // HEAD_SIZE

    @property
    def conv_channels(self) -> int:
        return self.d_inner if self.family == "mamba" else self.d_inner + 2 * GROUPS * self.d_state

    @property
    def vocab(self) -> int:
        """50277 tokens, padded to a multiple of 8 (Mamba) or 16 (Mamba-2) as published."""
        return 50280 if self.family == "mamba" else 50288

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Every weight matrix of one layer as (outputs, inputs), under its GGUF name."""
        if self.family == "mamba":
            return {
                "ssm_in": (2 * self.d_inner, self.d_model),
                "ssm_x": (self.dt_rank + 2 * self.d_state, self.d_inner),
                "ssm_dt": (self.d_inner, self.dt_rank),
                "ssm_out": (self.d_model, self.d_inner),
            }
        return {
            "ssm_in": (self.d_inner + self.conv_channels + self.dt_rank, self.d_model),
            "ssm_out": (self.d_model, self.d_inner),
        }

    @property
    def layer_weights(self) -> int:
        """Weights in the matrices of all layers, without embedding, vectors and convolutions."""
        return self.layers * sum(rows * columns for rows, columns in self.matrices.values())

    @property
    def state_bytes(self) -> int:
        """One sequence's states in f32: of the recurrences and of the convolutions."""
        return 4 * self.layers * (self.d_inner * self.d_state + self.conv_channels * (D_CONV - 1))


SHAPES = {
    name: Shape(name, family, d_model, layers)
    for name, family, d_model, layers in [
        ("mamba-130m", "mamba", 768, 24),
        ("mamba-370m", "mamba", 1024, 48),
        ("mamba-790m", "mamba", 1536, 48),
        ("mamba-1.4b", "mamba", 2048, 48),
        ("mamba-2.8b", "mamba", 2560, 64),
        ("mamba2-130m", "mamba2", 768, 24),
        ("mamba2-370m", "mamba2", 1024, 48),
        ("mamba2-780m", "mamba2", 1536, 48),
        ("mamba2-1.3b", "mamba2", 2048, 48),
        ("mamba2-2.7b", "mamba2", 2560, 64),
    ]
}

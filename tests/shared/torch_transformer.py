"""The language model of torch's own parts, in float64: what the batched one must agree with."""

import math

import torch
from torch import nn


class TorchModel(nn.Module):
    """The same model of torch's own parts, with the weights of one run."""

    def __init__(self, architecture, parameters, run, dropout=0.0):
        super().__init__()
        d, a = architecture.width, architecture
        self.embedding = nn.Embedding(a.vocabulary, d)
        layer = nn.TransformerEncoderLayer(d, a.heads, a.hidden_size, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, a.layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(d, a.vocabulary)
        self.double()
        with torch.no_grad():
            for name, own in self.named(architecture).items():
                value = parameters[name][run].double()
                own.copy_(value.mT if value.ndim == 2 and name != "embedding" else value)

    def named(self, architecture):
        """Our names of its parameters."""
        found = {
            "embedding": self.embedding.weight,
            "decoder.weight": self.decoder.weight,
            "decoder.bias": self.decoder.bias,
        }
        for i, layer in enumerate(self.encoder.layers):
            parts = {
                "attention_out": layer.self_attn.out_proj,
                "attention_norm": layer.norm1,
                "hidden_in": layer.linear1,
                "hidden_out": layer.linear2,
                "hidden_norm": layer.norm2,
            }
            found[f"{i}.attention_in.weight"] = layer.self_attn.in_proj_weight
            found[f"{i}.attention_in.bias"] = layer.self_attn.in_proj_bias
            for name, part in parts.items():
                found |= {f"{i}.{name}.weight": part.weight, f"{i}.{name}.bias": part.bias}
        return found

    def forward(self, inputs):
        length, d = inputs.shape[1], self.embedding.embedding_dim
        positions = torch.tensor(
            [
                [(math.sin if i % 2 == 0 else math.cos)(p / 10_000 ** (2 * (i // 2) / d)) for i in range(d)]
                for p in range(length)
            ],
            dtype=torch.float64,
        )
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        return self.encoder(self.embedding(inputs) * math.sqrt(d) + positions, mask=mask)

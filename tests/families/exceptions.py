"""What the rule for sizes cannot know of a family."""

from __future__ import annotations

from typing import Any

CASES: dict[str, list[str]] = {
    "bert": ["bert", "bert/decoder"],
    "roberta": ["roberta", "roberta/decoder"],
}
"""Families that are tried several times."""

SHARED: dict[str, Any] = {
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
}
"""Later layers use the keys and values of earlier ones."""

GEMMA3N = {**SHARED, "activation_sparsity_pattern": [0.9, 0.9, 0.0, 0.0], "intermediate_size": 96}

EXCEPTIONS: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]
    },
    "dbrx": {"attn_config": {"rope_theta": 10_000.0}},
    "dots3_note": {"text_config": {"adapter_in_dim": 64}},
    "gemma3n_text": GEMMA3N,
    "gemma3n": {"text_config": GEMMA3N},
    "gemma4_text": SHARED,
    "gemma4": {"text_config": SHARED},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "axial_pos_shape": [32, 32],
        "axial_pos_embds_dim": [32, 32],
    },
    "xmod": {"default_language": "en_XX", "is_decoder": True},
    "bert": {"is_decoder": False},
    "bert/decoder": {"is_decoder": True},
    "roberta": {"is_decoder": False},
    "roberta/decoder": {"is_decoder": True},
}
"""By case or family: attributes; of sub-configurations under their name; `before` is given to the default configuration,
`dicts` are attributes that are dictionaries.
"""

"""What the rule for sizes cannot know of a family."""

from __future__ import annotations

from typing import Any

ENCODERS = (
    "bert",
    "bert-generation",
    "big_bird",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "megatron-bert",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
CASES: dict[str, list[str]] = {name: [name, f"{name}/decoder"] for name in ENCODERS}
"""Families that are tried twice: encoders, and the same as decoders."""

TWO_KINDS = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
ZAMBA = {
    "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    "num_hidden_layers": 4,
    "attention_hidden_size": 128,
    "attention_head_dim": 32,
}
INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
    "ngram_vocab_size_base": 1000,
}
SHARED: dict[str, Any] = {
    "layer_types": TWO_KINDS,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
}
"""Later layers use the keys and values of earlier ones."""

GEMMA3N = {**SHARED, "activation_sparsity_pattern": [0.9, 0.9, 0.0, 0.0], "intermediate_size": 96}

EXCEPTIONS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "layer_types": TWO_KINDS,
        "dicts": {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in TWO_KINDS}},
    },
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "dots1": {"n_shared_experts": 1},
    "dots3_note": {
        "vision_config": {"adapter_in_dim": 64, "adapter_out_dim": 64},
        "audio_config": {"adapter_input_size": 64, "adapter_out_dim": 64},
    },
    "gemma3n_text": GEMMA3N,
    "gemma3n": {"text_config": GEMMA3N},
    "gemma4_text": SHARED,
    "gemma4": {"text_config": SHARED},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "lfm2": {
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "full_attn_idxs": [1, 3],
        "num_hidden_layers": 4,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "axial_pos_shape": [32, 32],
        "axial_pos_embds_dim": [32, 32],
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": ZAMBA,
    "zamba2": {**ZAMBA, "kv_channels": 16, "num_query_groups": 4, "n_mamba_heads": 8, "mamba_headdim": 16},
}
"""By family: attributes; those of sub-configurations under their name, and under `dicts` those that are dictionaries."""

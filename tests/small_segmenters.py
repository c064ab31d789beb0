"""SAM 2, SAM 3 and CLIPSeg of random weights, as their folders of the hub hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

__all__ = ["save_small_segmenter"]

_FEW = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def _save_words(folder: Path) -> dict[str, Any]:
    """A vocabulary that knows "cat"; returns what a text configuration says of it."""
    from transformers import CLIPTokenizer

    letters = ["a", "b", "c", "t"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>"]
    vocabulary = {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    source = folder / "words"
    source.mkdir()
    (source / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (source / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n", encoding="utf-8")
    CLIPTokenizer.from_pretrained(source).save_pretrained(folder)
    first, last = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    return {"vocab_size": len(vocabulary), "bos_token_id": first, "eos_token_id": last}


def _sam2() -> Any:
    from transformers import Sam2Config, Sam2Model

    side = 64
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [side, side],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1],
        "window_size_per_stage": [8, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 16,
    }
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2}
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 16, "image_size": side},
        mask_decoder_config={**decoder, "iou_head_hidden_dim": 16},
    )
    return Sam2Model(config)


def _sam3(words: dict[str, Any]) -> Any:
    from transformers import Sam3Config, Sam3Model

    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "image_size": 56,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [0],
        "pretrain_image_size": 28,
        **_FEW,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }
    text = {"hidden_size": 16, "projection_dim": 16, "max_position_embeddings": 32, **_FEW, **words}
    small = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = Sam3Config(
        vision_config=vision,
        text_config=text,
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 5},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    return Sam3Model(config)


def _clipseg(words: dict[str, Any]) -> Any:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    text = {"hidden_size": 16, "max_position_embeddings": 8, "pad_token_id": 0, **_FEW, **words}
    config = CLIPSegConfig(
        text_config=text,
        vision_config={
            "hidden_size": 16,
            "image_size": 32,
            "patch_size": 16,
            **_FEW,
            "num_hidden_layers": 4,
        },
        projection_dim=16,
        extract_layers=[1, 2, 3],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )
    return CLIPSegForImageSegmentation(config)


def save_small_segmenter(folder: Path, kind: str) -> Path:
    """Fill a new folder; SAM 3's holds the detector alone."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    net = _sam2() if kind == "sam2" else (_sam3, _clipseg)[kind == "clipseg"](_save_words(folder))
    net.save_pretrained(folder)
    if kind == "clipseg":
        text = json.dumps({"size": {"height": 64, "width": 64}})
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
    return folder

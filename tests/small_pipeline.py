"""A random Stable Diffusion of a few thousand weights in the layout of diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def save_small_pipeline(root: Path) -> Path:
    """Fill the folder `root` with every part that is loaded; sides are multiples of 64 pixels."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=2,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    ).save_pretrained(root / "unet")
    AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
    ).save_pretrained(root / "vae")
    letters = ["a", "b", "c", "t"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>"]
    vocabulary = {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    source = root / "words"
    source.mkdir()
    (source / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (source / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(source, model_max_length=7)
    tokenizer.save_pretrained(root / "tokenizer")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=7,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
        )
    ).save_pretrained(root / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    ).save_pretrained(root / "scheduler")
    return root

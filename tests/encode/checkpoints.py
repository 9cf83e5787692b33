"""Folders as `local-dir:` reads them, of genuine architectures with random weights.

An OpenCLIP ViT and a SigLIP, each in a small form (same code path, seconds less) and in full size.
"""

from __future__ import annotations

import json

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

OPENAI_MEAN, OPENAI_STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
CLIP_SCALE, SIGLIP_SCALE, SIGLIP_BIAS = 100.0, 117.33, -12.93
"""What ViT-B-16-SigLIP ends its training with, about; a CLIP of OpenAI's ends at 100."""
WORDS = ("a", "photo", "of", "an", "image", "with", "picture", "cat", "dog", "ship", "tree")

SMALL_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 64, "layers": 2, "width": 64, "patch_size": 32, "head_width": 32,
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
    },
}  # fmt: skip
SMALL_SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False,
        "timm_pool": "map", "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16, "vocab_size": 32, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"}, "width": 64, "heads": 2, "layers": 2,
        "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
        "norm_kwargs": {"eps": 1e-06},
    },
}  # fmt: skip
CLIP_PREPROCESSING = {"mean": list(OPENAI_MEAN), "std": list(OPENAI_STD)}
SIGLIP_PREPROCESSING = {
    "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic",
    "resize_mode": "squash",
}  # fmt: skip


def write_clip(folder, config=SMALL_CLIP):
    """Write a CLIP; its tokenizer is the one that open_clip has."""
    return _write(folder, config, CLIP_PREPROCESSING, CLIP_SCALE, None)


def write_siglip(folder, config=SMALL_SIGLIP):
    """Write a SigLIP and a tokenizer of its own, which ends texts and fills them up alike."""
    name = _write(folder, config, SIGLIP_PREPROCESSING, SIGLIP_SCALE, SIGLIP_BIAS)
    write_tokenizer(folder)
    return name


def write_tokenizer(folder, words=WORDS):
    """Write a tokenizer of whole words, in the files of transformers."""
    numbers = {word: i for i, word in enumerate(["<unk>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)


def _write(folder, config, preprocessing, scale, bias):
    folder.mkdir(parents=True)
    file = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(file))
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    settings = {name: value for name, value in config.items() if name != "custom_text"}
    model = kind(**settings)
    with torch.no_grad():
        model.logit_scale.copy_(torch.tensor(scale).log())
        if bias is not None:
            model.logit_bias.copy_(torch.tensor(bias))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"

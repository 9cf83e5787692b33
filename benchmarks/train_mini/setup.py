"""What both stages of the mini model's training share: pictures, words, model, optimizer."""

from __future__ import annotations

import argparse
import copy
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import CLIP
from torch import nn

from benchmarks.train_mini import concepts as words
from benchmarks.train_mini import data as mini_data
from benchmarks.train_mini.model import CONTEXT, TextBank, learn_merges, model_config

PACKAGE = Path(__file__).resolve().parents[2] / "clip_al"
VOCABULARY = PACKAGE / "vocabularies" / "general.txt"
WEIGHTS = PACKAGE / "mini" / "weights"


@dataclass
class Setup:
    """What both stages share."""

    model: CLIP
    config: dict[str, Any]
    merges: list[tuple[str, str]]
    bank: TextBank
    sources: dict[str, mini_data.Pictures]
    id_columns: list[int]  # the concepts that name a picture
    others: list[int]  # all other concepts
    rng: torch.Generator


def prepare(args: argparse.Namespace) -> Setup:
    """Seed, learn the merges, make the model and load the pictures."""
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    vocabulary = words.read_vocabulary(VOCABULARY)
    merges = learn_merges(vocabulary)
    words.write_merges(args.output / "bpe_merges.txt.gz", merges)
    tokenizer = open_clip.SimpleTokenizer(
        str(args.output / "bpe_merges.txt.gz"), context_length=CONTEXT
    )
    config = model_config(tokenizer.vocab_size, args.image_tower, args.size)
    model = CLIP(**copy.deepcopy(config["model_cfg"])).to(memory_format=torch.channels_last)
    bank = TextBank(vocabulary, tokenizer)
    identities = mini_data.identity_names(vocabulary)
    root = mini_data.cifar_root(mini_data.data_folder(args.data), args.cache)
    sources = mini_data.load_sources(
        root, args.cache, args.seed, args.glyph_scale, bank.names, identities
    )
    columns = [bank.names.index(n) for n in identities]
    others = [c for c in range(len(bank.names)) if c not in set(columns)]
    counts = {k: len(v.pixels) for k, v in sources.items()}
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"pictures {counts}, {len(bank.names)} concepts, {n_parameters:,} parameters", flush=True)
    rng = torch.Generator().manual_seed(args.seed)
    return Setup(model, config, merges, bank, sources, columns, others, rng)


def learning_rate(done: float, peak: float) -> float:
    """One cycle over the elapsed share `done`: warm up for 8 %, then down to zero by a cosine."""
    if done < 0.08:
        return peak * (0.05 + 0.95 * done / 0.08)
    return peak * 0.5 * (1 + math.cos(min(1.0, (done - 0.08) / 0.92) * math.pi))


def make_optimizer(modules: list[nn.Module], lr: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves vectors and scalars alone."""
    params = [p for m in modules for p in m.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [{"params": [p for p in params if p.ndim > 1], "weight_decay": 0.06},
         {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}],
        lr=lr, betas=(0.9, 0.98),
    )  # fmt: skip

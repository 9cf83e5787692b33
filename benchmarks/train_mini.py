"""Train the embedded CLIP "mini", and measure it.

    python benchmarks/train_mini.py --minutes 75 --output OUT     train; the model is OUT/weights
    python benchmarks/train_mini.py --tune-text --output OUT      repeat the second stage only
    python benchmarks/train_mini.py --evaluate [--weights DIR]    print the figures

Recipe. Images: CIFAR-10 train 0000-2499 of each class, and glyphs drawn by `mini_glyphs` (most of
them made the way the UCI digits were: 32 x 32 bitmap, block counts, 8 x 8). Texts: prompts of the
general vocabulary; `mini_concepts` says how true each concept is of each picture. Towers: timm's
resnet10t at 48 and later 64 pixels, and a 3-layer text transformer on byte-pair merges learned
here. Each step encodes a bank of texts (every class, digit, letter and shape name in a random
phrasing, other concepts at random, and captions of pictures of the batch) and adds up

- cross-entropy of each picture over the names (the zero-shot task), label smoothing 0.1;
- binary cross-entropy of picture x concept, with soft targets, own scale and bias;
- multi-positive InfoNCE in both directions between pictures and captions.

AdamW, one-cycle on *elapsed time* so that a run ends when it was told to, an exponential average
of the weights, bf16 autocast, crop + zoom + flip + jitter + cut-out. A run that was killed goes
on from `OUT/checkpoint.pt`. The second stage freezes the picture tower and trains the text tower
against the whole vocabulary at once, which is cheap since pictures are encoded only once; it adds
the cross-entropy of standardised similarities, the way the library reads concepts off a pool.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mini_concepts as words
import mini_data
import mini_evaluate
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from mini_model import (
    CONTEXT,
    Objective,
    TextBank,
    encode_tokens,
    export,
    learn_merges,
    model_config,
    standardised_loss,
    update_average,
)
from open_clip import CLIP
from safetensors.torch import load_file
from torch import Tensor, nn

PACKAGE = Path(__file__).resolve().parents[1] / "clip_al"
VOCABULARY = PACKAGE / "vocabularies" / "general.txt"
WEIGHTS = PACKAGE / "mini" / "weights"
BATCH = {"photo": 208, "small": 28, "large": 20}


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
    config = model_config(tokenizer.vocab_size, args.image_tower)
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


def endless_rows(n: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of row numbers, each row once an epoch."""
    while True:
        order = torch.randperm(n, generator=rng)
        for start in range(0, n - batch + 1, batch):
            yield order[start : start + batch]


def learning_rate(done: float, peak: float) -> float:
    """One cycle over the elapsed share `done`: warm up for 8 %, then down to zero by a cosine."""
    if done < 0.08:
        return peak * (0.05 + 0.95 * done / 0.08)
    return peak * 0.5 * (1 + math.cos(min(1.0, (done - 0.08) / 0.92) * math.pi))


def joint_loss(
    args: argparse.Namespace, setup: Setup, objective: Objective, rows: dict[str, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    """Encode a batch of pictures and a bank of texts; returns the loss and the hits (b,)."""
    sources, bank, model = setup.sources, setup.bank, setup.model
    x = torch.cat([mini_data.to_batch(sources[k], rows[k], size, 1.0, setup.rng) for k in rows])
    x = x.contiguous(memory_format=torch.channels_last)
    targets = torch.cat([sources[k].targets[rows[k]] for k in rows])
    identity = torch.cat([sources[k].identity[rows[k]] for k in rows])
    columns = setup.id_columns + random.sample(setup.others, args.bank)
    who = random.sample(range(len(x)), args.captions)
    subjects = [setup.id_columns[int(identity[i])] for i in who]
    tokens, used = bank.captions(targets[who], subjects)
    caption_truth = ((used @ (targets <= 230).float().T) == 0).float()
    with torch.autocast("cpu", torch.bfloat16):
        image = F.normalize(model.visual(x).float(), dim=-1)
        text = encode_tokens(model, torch.cat([bank.draw(columns), tokens]))
    n_names, n_bank = len(setup.id_columns), len(columns)
    return objective(
        image, text[:n_names], text[:n_bank], text[n_bank:],
        model.logit_scale.exp().clamp(max=100), identity, targets[:, columns].float() / 255,
        caption_truth,
    )  # fmt: skip


def make_optimizer(modules: list[nn.Module], lr: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves vectors and scalars alone."""
    params = [p for m in modules for p in m.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [{"params": [p for p in params if p.ndim > 1], "weight_decay": 0.06},
         {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}],
        lr=lr, betas=(0.9, 0.98),
    )  # fmt: skip


def train(args: argparse.Namespace) -> None:
    """Run the first stage: both towers."""
    setup = prepare(args)
    model, objective = setup.model, Objective()
    average = copy.deepcopy(model)
    optimizer = make_optimizer([model, objective], args.lr)
    parts = {"model": model, "average": average, "objective": objective, "optimizer": optimizer}
    checkpoint = args.output / "checkpoint.pt"
    spent, step = 0.0, 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        spent, step = state["spent"], state["step"]
        print(f"going on at step {step}, {spent / 60:.1f} min", flush=True)
    rows = {
        k: endless_rows(len(s.pixels), BATCH[k], setup.rng) for k, s in setup.sources.items()
    }
    begun = time.perf_counter() - spent
    saved = printed = time.perf_counter()
    tally = torch.zeros(4)
    while (done := (time.perf_counter() - begun) / (60 * args.minutes)) < 1:
        size = 48 if done < args.small_until else 64
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, args.lr)
        batch = {k: next(r) for k, r in rows.items()}
        loss, right = joint_loss(args, setup, objective, batch, size)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        step += 1
        update_average(average, model, step)
        hits = [part.mean() for part in right.split(list(BATCH.values()))]
        tally += torch.stack([loss.detach(), *hits])
        now = time.perf_counter()
        if step % 100 == 0:
            m = (tally / 100).tolist()
            rate = 100 * sum(BATCH.values()) / (now - printed)
            epoch = step * BATCH["photo"] / len(setup.sources["photo"].pixels)
            print(f"{(now - begun) / 60:5.1f} min step {step} epoch {epoch:.1f} size {size} "
                  f"{rate:.0f} img/s loss {m[0]:.3f} photo {m[1]:.3f} small {m[2]:.3f} "
                  f"large {m[3]:.3f} scale {model.logit_scale.exp():.1f}", flush=True)  # fmt: skip
            tally.zero_()
            printed = now
        if now - saved > 60 * args.save_every:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**state, "spent": now - begun, "step": step}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            export(average, setup.config, setup.merges, args.output / "stage1")
            saved = now
    export(average, setup.config, setup.merges, args.output / "stage1")
    print(f"done: {step} steps, {(time.perf_counter() - begun) / 60:.1f} min", flush=True)


@torch.inference_mode()
def encode_views(setup: Setup, per_source: dict[str, int], size: int = 64) -> dict[str, list[Tensor]]:
    """Encode augmented views of the training pictures: embeddings, targets, identities."""
    out = {}
    for kind, n in per_source.items():
        source, parts, rows = setup.sources[kind], [], []
        for start in range(0, n, 250):
            row = (torch.arange(start, start + 250) * 7919) % len(source.pixels)
            x = mini_data.to_batch(source, row, size, 0.7, setup.rng)
            with torch.autocast("cpu", torch.bfloat16):
                parts.append(F.normalize(setup.model.visual(x).float(), dim=-1))
            rows.append(row)
        chosen = torch.cat(rows)
        out[kind] = [torch.cat(parts), source.targets[chosen], source.identity[chosen]]
        print(f"encoded {n} views of {kind}", flush=True)
    return out


def tune_text(args: argparse.Namespace) -> None:
    """Run the second stage: the text tower against the whole vocabulary, pictures frozen."""
    setup = prepare(args)
    model, bank, objective = setup.model, setup.bank, Objective()
    model.load_state_dict(load_file(args.output / "stage1" / "open_clip_model.safetensors"))
    model.eval()
    views = encode_views(setup, {"photo": args.views, "small": 10_000, "large": 10_000})
    take = {"photo": 640, "small": 200, "large": 160}
    model.visual.requires_grad_(False)
    average = copy.deepcopy(model)
    optimizer = make_optimizer([model, objective], args.text_lr)
    everything = list(range(len(bank.names)))
    begun, step, tally = time.perf_counter(), 0, torch.zeros(3)
    while (done := (time.perf_counter() - begun) / (60 * args.text_minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, args.text_lr)
        picks = {k: torch.randint(len(views[k][0]), (n,), generator=setup.rng) for k, n in take.items()}
        image, targets, identity = (
            torch.cat([views[k][part][picks[k]] for k in take]).clone() for part in range(3)
        )
        with torch.autocast("cpu", torch.bfloat16):
            text = encode_tokens(model, bank.draw(everything))
        truth = targets.float() / 255
        scale = model.logit_scale.exp().clamp(max=100)
        names = F.cross_entropy(scale * image @ text[setup.id_columns].T, identity, label_smoothing=0.1)
        logits = objective.scale.exp() * image @ text.T + objective.bias
        concepts = F.binary_cross_entropy_with_logits(logits, truth)
        pools = [standardised_loss(i, text, t) for i, t in zip(image.split(list(take.values())), truth.split(list(take.values())), strict=True)]
        ranked = 0.7 * pools[0] + 0.2 * pools[1] + 0.1 * pools[2]
        loss = names + 20 * concepts + ranked
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        update_average(average, model, step, decay=0.98)
        tally += torch.stack([names.detach(), concepts.detach(), ranked.detach()])
        if step % 25 == 0:
            m = (tally / 25).tolist()
            print(f"{(time.perf_counter() - begun) / 60:5.1f} min step {step} names {m[0]:.3f} "
                  f"concepts {m[1]:.4f} standardised {m[2]:.3f}", flush=True)  # fmt: skip
            tally.zero_()
    export(average, setup.config, setup.merges, args.output / "weights")
    print(f"done: {step} steps on the text tower", flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train or measure the mini model.")
    add = parser.add_argument
    add("--evaluate", action="store_true", help="print the figures of --weights and stop")
    add("--tune-text", action="store_true", help="run only the second stage, on OUTPUT/stage1")
    add("--minutes", type=float, default=75, help="wall-clock length of the first stage")
    add("--text-minutes", type=float, default=4, help="wall-clock length of the second stage")
    add("--output", type=Path, default=Path("mini-run"), help="gets checkpoint.pt, stage1/, weights/")
    add("--weights", type=Path, default=WEIGHTS, help="what --evaluate measures")
    add("--limit", type=int, default=0, help="with --evaluate: images per class, 0 for all")
    add("--data", type=Path, default=None, help="folder of cifar10.tar.xz, or train/ and test/")
    add("--cache", type=Path, default=Path.home() / ".cache" / "clip_al")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=2)
    add("--image-tower", default="resnet10t", help="a timm model")
    add("--lr", type=float, default=2e-3)
    add("--text-lr", type=float, default=1e-3)
    add("--bank", type=int, default=80, help="concepts drawn per step")
    add("--captions", type=int, default=16, help="captions per step")
    add("--small-until", type=float, default=0.8, help="share of the time at 48 pixels")
    add("--glyph-scale", type=float, default=1.0, help="share of the 90,000 glyphs to draw")
    add("--views", type=int, default=50_000, help="augmented photographs of the second stage")
    add("--save-every", type=float, default=4, help="minutes between checkpoints")
    return parser.parse_args(argv)


def main() -> None:
    """Train, tune or evaluate."""
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.evaluate:
        torch.set_num_threads(args.threads)
        root = mini_data.cifar_root(mini_data.data_folder(args.data), args.cache)
        mini_evaluate.evaluate(args.weights, VOCABULARY, root, args.limit, args.seed)
        return
    args.output.mkdir(parents=True, exist_ok=True)
    if not args.tune_text:
        train(args)
    tune_text(args)


if __name__ == "__main__":
    main()

"""Train the embedded CLIP "mini", and measure it.

    python -m benchmarks.train_mini --minutes 75 --output OUT     train; the model is OUT/weights
    python -m benchmarks.train_mini --tune-text --output OUT      repeat the second stage only
    python -m benchmarks.train_mini --evaluate [--weights DIR]    print the figures

Recipe. Pictures: CIFAR-10 train 0000-2499 of each class, and glyphs drawn by `glyphs` (most
of them made the way the UCI digits were: 32 x 32 bitmap, block counts, 8 x 8). Texts: phrases of
the general vocabulary; `concepts` and `pixels` say how true each concept is of each
picture. Towers: timm's resnet10t at 64 pixels, and a 3-layer text transformer on byte-pair merges
learned here. Each step encodes a bank of texts (every class, digit, letter and shape name in a
random phrasing, other concepts at random, and captions of pictures of the batch) and adds up

- cross-entropy of each picture over the names (the zero-shot task), label smoothing 0.1;
- binary cross-entropy of picture x concept, with soft targets, own scale and bias;
- multi-positive InfoNCE in both directions between pictures and captions.

AdamW, one-cycle on *elapsed time* so that a run ends when it was told to, an exponential average
of the weights, bf16 autocast, crop + zoom + flip + jitter + cut-out. A run that was killed goes
on from `OUT/checkpoint.pt`. The second stage (`tune`) freezes the picture tower and trains
the text tower against the whole vocabulary at once, which is cheap since pictures are encoded
only once; it adds the cross-entropy of standardised similarities, the way the library reads
concepts off a pool. The figures are in clip_al/mini/CARD.md.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.train_mini import data as mini_data
from benchmarks.train_mini import evaluate as mini_evaluate
from benchmarks.train_mini.model import Objective, encode_tokens, export, update_average
from benchmarks.train_mini.setup import (
    VOCABULARY,
    WEIGHTS,
    Setup,
    learning_rate,
    make_optimizer,
    prepare,
)
from benchmarks.train_mini.tune import tune_text

BATCH = {"photo": 224, "small": 16, "large": 16}  # pictures of each source in a step
STRENGTH = 1.0  # of the augmentation


def endless_rows(n: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of row numbers, each row once an epoch."""
    while True:
        order = torch.randperm(n, generator=rng)
        for start in range(0, n - batch + 1, batch):
            yield order[start : start + batch]


def joint_loss(
    args: argparse.Namespace, setup: Setup, objective: Objective, rows: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Encode a batch of pictures and a bank of texts; returns the loss and the hits (b,)."""
    sources, bank, model = setup.sources, setup.bank, setup.model
    views = [mini_data.to_batch(sources[k], rows[k], args.size, STRENGTH, setup.rng) for k in rows]
    x = torch.cat(views).contiguous(memory_format=torch.channels_last)
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


def train(args: argparse.Namespace) -> None:
    """Run the first stage: both towers."""
    setup = prepare(args)
    model, objective = setup.model, Objective()
    if args.start_from:
        model.load_state_dict(load_file(args.start_from / "open_clip_model.safetensors"))
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
        setup.rng.manual_seed(args.seed + step)  # else the resumed run sees the same crops again
        print(f"going on at step {step}, {spent / 60:.1f} min", flush=True)
    rows = {k: endless_rows(len(s.pixels), BATCH[k], setup.rng) for k, s in setup.sources.items()}
    begun = time.perf_counter() - spent
    saved = printed = time.perf_counter()
    tally = torch.zeros(4)
    while (done := (time.perf_counter() - begun) / (60 * args.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, args.lr)
        batch = {k: next(r) for k, r in rows.items()}
        loss, right = joint_loss(args, setup, objective, batch)
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
            print(f"{(now - begun) / 60:5.1f} min step {step} epoch {epoch:.1f} "
                  f"{rate:.0f} img/s loss {m[0]:.3f} photo {m[1]:.3f} small {m[2]:.3f} "
                  f"large {m[3]:.3f} scale {model.logit_scale.exp():.1f}", flush=True)  # fmt: skip
            tally.zero_()
            printed = now
        if now - saved > 60 * args.save_every:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save(
                {**state, "spent": now - begun, "step": step}, checkpoint.with_suffix(".tmp")
            )
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            export(average, setup.config, setup.merges, args.output / "stage1")
            saved = now
    export(average, setup.config, setup.merges, args.output / "stage1")
    print(f"done: {step} steps, {(time.perf_counter() - begun) / 60:.1f} min", flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train or measure the mini model.")
    add = parser.add_argument
    add("--evaluate", action="store_true", help="print the figures of --weights and stop")
    add("--tune-text", action="store_true", help="run only the second stage, on OUTPUT/stage1")
    add("--minutes", type=float, default=75, help="wall-clock length of the first stage")
    add("--text-minutes", type=float, default=4, help="wall-clock length of the second stage")
    add(
        "--output",
        type=Path,
        default=Path("mini-run"),
        help="gets checkpoint.pt, stage1/, weights/",
    )
    add("--start-from", type=Path, help="weights folder to begin with, at any --size")
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
    add("--size", type=int, default=64, help="side of the picture tower's input in pixels")
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

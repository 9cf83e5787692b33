"""The second stage: the text tower against the whole vocabulary, with the pictures frozen."""

from __future__ import annotations

import argparse
import copy
import time

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.train_mini import data as mini_data
from benchmarks.train_mini.model import (
    Objective,
    encode_tokens,
    export,
    standardised_loss,
    update_average,
)
from benchmarks.train_mini.setup import Setup, learning_rate, make_optimizer, prepare

TAKE = {"photo": 640, "small": 200, "large": 160}  # pictures of each source in a step


@torch.inference_mode()
def encode_views(setup: Setup, per_source: dict[str, int], size: int) -> dict[str, list[Tensor]]:
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


def tune_loss(
    setup: Setup, objective: Objective, image: Tensor, truth: Tensor, identity: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of one step and its three parts: names, concepts, standardised concepts."""
    model, bank = setup.model, setup.bank
    with torch.autocast("cpu", torch.bfloat16):
        text = encode_tokens(model, bank.draw(list(range(len(bank.names)))))
    scale = model.logit_scale.exp().clamp(max=100)
    name_logits = scale * image @ text[setup.id_columns].T
    names = F.cross_entropy(name_logits, identity, label_smoothing=0.1)
    logits = objective.scale.exp() * image @ text.T + objective.bias
    concepts = F.binary_cross_entropy_with_logits(logits, truth)
    sizes = list(TAKE.values())
    pools = zip(image.split(sizes), truth.split(sizes), (0.7, 0.2, 0.1), strict=True)
    ranked = sum(w * standardised_loss(i, text, t) for i, t, w in pools)
    return names + 20 * concepts + ranked, torch.stack([names, concepts, ranked]).detach()


def tune_text(args: argparse.Namespace) -> None:
    """Train the text tower of OUTPUT/stage1 and export the model to OUTPUT/weights."""
    setup = prepare(args)
    model, objective = setup.model, Objective()
    model.load_state_dict(load_file(args.output / "stage1" / "open_clip_model.safetensors"))
    model.eval()
    views = encode_views(setup, {"photo": args.views, "small": 10_000, "large": 10_000}, args.size)
    model.visual.requires_grad_(False)
    average = copy.deepcopy(model)
    optimizer = make_optimizer([model, objective], args.text_lr)
    begun, step, tally = time.perf_counter(), 0, torch.zeros(3)
    while (done := (time.perf_counter() - begun) / (60 * args.text_minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, args.text_lr)
        picks = {
            k: torch.randint(len(views[k][0]), (n,), generator=setup.rng) for k, n in TAKE.items()
        }
        image, targets, identity = (
            torch.cat([views[k][part][picks[k]] for k in TAKE]).clone() for part in range(3)
        )
        loss, parts = tune_loss(setup, objective, image, targets.float() / 255, identity)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        update_average(average, model, step, decay=0.98)
        tally += parts
        if step % 25 == 0:
            m = (tally / 25).tolist()
            print(f"{(time.perf_counter() - begun) / 60:5.1f} min step {step} names {m[0]:.3f} "
                  f"concepts {m[1]:.4f} standardised {m[2]:.3f}", flush=True)  # fmt: skip
            tally.zero_()
    export(average, setup.config, setup.merges, args.output / "weights")
    print(f"done: {step} steps on the text tower", flush=True)

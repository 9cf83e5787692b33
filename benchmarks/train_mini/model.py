"""The mini model's towers, its bank of texts, and the losses that train it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from open_clip import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.train_mini import concepts as words
from benchmarks.train_mini import data as mini_data

N_MERGES = 2200
CONTEXT = 24


def model_config(vocab_size: int, image_tower: str, size: int) -> dict[str, Any]:
    """Return the open_clip configuration of the mini model."""
    return {
        "model_cfg": {
            "embed_dim": 256,
            "vision_cfg": {
                "timm_model_name": image_tower, "timm_model_pretrained": False, "timm_pool": "",
                "timm_proj": "linear", "image_size": size,
            },
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": vocab_size, "width": 160, "heads": 4,
                "layers": 3,
            },
        },
        "preprocess_cfg": {
            "mean": list(mini_data.MEAN), "std": list(mini_data.STD), "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }  # fmt: skip


def encode_tokens(model: CLIP, tokens: Tensor) -> Tensor:
    """Encode texts as `model.encode_text` does, without the padding; (t, d) of unit length."""
    length = int((tokens > 0).sum(1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(tokens)), tokens.argmax(1)]
    return F.normalize((x @ model.text_projection).float(), dim=-1)


def concept_phrases(row: list[str]) -> list[str]:
    """Return the ways to name a concept: its names in every template, and digits in figures."""
    phrases = [t.format(name) for name in row for t in words.TEMPLATES]
    if len(row) > 1 and row[1].startswith("digit "):
        figure = row[-1]
        extra = [p.format(word=row[0], figure=figure) for p in words.DIGIT_PHRASES]
        phrases += [t.format(p) for p in extra for t in words.TEMPLATES[:4]]
    return phrases


class TextBank:
    """Tokenised phrases of every concept, drawn at random for each step."""

    def __init__(self, vocabulary: list[list[str]], tokenizer: open_clip.SimpleTokenizer) -> None:
        self.names = [row[0] for row in vocabulary]
        self.vocabulary = vocabulary
        self.tokenizer = tokenizer
        self.phrases = [concept_phrases(row) for row in vocabulary]
        self.tokens = [tokenizer(p) for p in self.phrases]

    def draw(self, concepts: list[int]) -> Tensor:
        """One random phrase per concept: (len(concepts), context) int64."""
        return torch.stack(
            [self.tokens[c][random.randrange(len(self.tokens[c]))] for c in concepts]
        )

    def captions(self, targets: Tensor, subjects: list[int]) -> tuple[Tensor, Tensor]:
        """Caption pictures by their subject and one or two true concepts.

        `targets` is (b, c) uint8 and `subjects` the concept that names each picture. Returns the
        tokens (k, context) and the concepts used, (k, c) float32.
        """
        texts, used = [], torch.zeros(len(subjects), targets.shape[1])
        for i, subject in enumerate(subjects):
            true = [c for c in (targets[i] > 230).nonzero().flatten().tolist() if c != subject]
            extra = random.sample(true, min(len(true), random.choice((1, 1, 2))))
            named = [random.choice(self.vocabulary[c]) for c in (subject, *extra)]
            join = random.choice((", ", " and ", " with "))
            texts.append(random.choice(words.TEMPLATES).format(join.join(named)))
            used[i, [subject, *extra]] = 1
        return self.tokenizer(texts), used


def multi_positive(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows of the mean log-probability of the positives; logits, positive (r, c)."""
    logp = logits.log_softmax(1)
    return -((logp * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


def standardised_loss(image: Tensor, text: Tensor, truth: Tensor, sharpness: float = 2.0) -> Tensor:
    """Cross-entropy over concepts of the similarities standardised over the pictures.

    This is how the library reads concepts off a pool: each concept's similarity less its mean over
    the pool, over its deviation. Words that nothing teaches are thereby kept from standing out.

    Parameters
    ----------
    image : Tensor of shape (b, d)
    text : Tensor of shape (c, d)
    truth : Tensor of shape (b, c)
        Truth of each concept in [0, 1]; a row's squared truths, summing to one, are its target.
        Where a row has truths of 1 (a photograph's class, synonyms and hypernyms), that *one* of
        them stands out is rewarded as well.
    sharpness : float
        Factor on the standardised similarities.
    """
    sim = image @ text.T
    z = sharpness * (sim - sim.mean(0)) / (sim.std(0) + 1e-4)
    logp = z.log_softmax(1)
    target = truth.square()
    target = target / target.sum(1, keepdim=True).clamp(min=1e-6)
    loss = -(target * logp).sum(1).mean()
    kinds = truth == 1
    if kinds.any(1).all():
        loss = loss - logp.masked_fill(~kinds, -1e4).logsumexp(1).mean()
    return loss


class Objective(nn.Module):
    """The three losses; holds the scale and bias that only the sigmoid loss needs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.7))
        self.bias = nn.Parameter(torch.tensor(-6.0))

    def forward(
        self, image: Tensor, names: Tensor, bank: Tensor, captions: Tensor, clip_scale: Tensor,
        identity: Tensor, truth: Tensor, caption_truth: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return the loss and the share of pictures whose name is ranked first."""
        name_logits = clip_scale * image @ names.T
        loss = F.cross_entropy(name_logits, identity, label_smoothing=0.1)
        concept_logits = self.scale.exp() * image @ bank.T + self.bias
        loss = loss + 10 * F.binary_cross_entropy_with_logits(concept_logits, truth)
        logits = clip_scale * captions @ image.T
        loss = loss + 0.15 * multi_positive(logits, caption_truth)
        some = caption_truth.sum(0) > 0
        loss = loss + 0.15 * multi_positive(logits.T[some], caption_truth.T[some])
        return loss, (name_logits.argmax(1) == identity).float()


def export(
    model: CLIP, config: dict[str, Any], merges: list[tuple[str, str]], folder: Path
) -> None:
    """Write the folder that open_clip's `local-dir:` loads; weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    target = folder / "open_clip_model.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, target)
    target.chmod(0o644)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    words.write_merges(folder / "bpe_merges.txt.gz", merges)


def update_average(average: nn.Module, model: nn.Module, step: int, decay: float = 0.998) -> None:
    """Move the averaged weights towards the model's, and its batch statistics faster."""
    warm = (1 + step) / (10 + step)
    with torch.no_grad():
        source = model.state_dict()
        for key, value in average.state_dict().items():
            if value.is_floating_point():
                slow = 0.98 if "running_" in key else decay
                value.lerp_(source[key], 1 - min(slow, warm))
            else:
                value.copy_(source[key])


def learn_merges(vocabulary: list[list[str]]) -> list[tuple[str, str]]:
    """Learn the byte-pair merges from every phrase of the vocabulary."""
    return words.train_bpe((p for row in vocabulary for p in concept_phrases(row)), N_MERGES)

"""The embedded CLIP "mini": its weights, with CARD.md and LICENSE; nothing is loaded here."""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "weights"
"""What ``local-dir:`` takes: configuration, weights and byte-pair vocabulary."""

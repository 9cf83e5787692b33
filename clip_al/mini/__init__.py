"""The folder of the embedded CLIP "mini" (see docs/mini-model.md); nothing is loaded here."""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "weights"

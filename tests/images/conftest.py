"""The small encoder that all tests of this folder use."""

from tests.tiny_clip import _on_one_thread, encoder, folder, tiny

__all__ = ["_on_one_thread", "encoder", "folder", "tiny"]

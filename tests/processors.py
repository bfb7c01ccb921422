"""The ways of a kind of processor, used on any."""

import pytest

from gpt2_torch import products


def pretended(kind, monkeypatch):
    """Yields the kind while generate lays weights out as on it; None: as on one that nothing is known of."""
    monkeypatch.setattr(products, "processor", lambda: kind)
    products._has_onednn.cache_clear()
    if kind and not products._has_onednn():
        pytest.skip("PyTorch has no oneDNN here")  # builds for other processors have none
    yield kind
    products._has_onednn.cache_clear()

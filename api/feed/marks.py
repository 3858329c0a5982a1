"""Names of the checkpoints that the feed keeps."""

from __future__ import annotations


def pushed(product: str) -> str:
    """How far the product's frames were taken by the endpoint that they are pushed to."""
    return f"push:{product}"


def listened(host: str, port: int) -> str:
    """With a product's id and a client's face behind it: what such clients of this server have had."""
    return f"feed:{host}:{port}:"

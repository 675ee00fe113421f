"""Images: bytes from anywhere in, upright RGB pixels or a reason out."""

from anglehash.data.images.decoding import decode

__all__ = ["decode"]

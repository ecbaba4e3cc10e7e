"""Adapter files: what a training leaves behind and people share."""

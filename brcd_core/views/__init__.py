"""Augmented views of images, and the bank of their features: what frozen backbones see, computed once."""

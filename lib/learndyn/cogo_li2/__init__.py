"""Composing global solutions by algebra (CoGO): modular addition in a two-layer network."""

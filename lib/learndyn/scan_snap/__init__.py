"""Scan and snap: how attention in a one-layer decoder picks its tokens, and why it stops."""

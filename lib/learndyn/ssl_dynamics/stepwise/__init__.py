"""Stepwise self-supervised learning (Simon et al., 2023): theory, experiments, claims."""

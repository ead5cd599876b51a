"""What the pipeline raises when a request cannot be carried out."""

from learndyn.core.errors import PlainError


class PipelineError(PlainError):
    """A request that cannot be carried out, in one sentence."""

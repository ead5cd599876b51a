"""Errors that reach a reader: one sentence in a terminal, in JupyterLab and in an executed notebook."""


class PlainError(ValueError):
    """An error whose message says everything: what is wrong, where, and what is allowed.

    IPython calls `_render_traceback_` instead of drawing a traceback, and papermill writes what IPython
    sends, so a wrong parameter shows as this one sentence and not as frames of this library.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]

"""Checkpoints of a running training: tensors in a safetensors file, the config in its metadata, no pickle.

A file is written under a temporary name beside its target and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from learndyn.core.errors import PlainError

FORMAT = "learndyn-checkpoint-1"


class CheckpointError(PlainError):
    """A checkpoint that cannot be used; the message is one sentence that names the file and the reason."""


def save(path: Path | str, tensors: Mapping[str, Tensor], *, identity: str, step: int) -> None:
    """Write ``tensors`` as the state before ``step`` of the training described by ``identity``.

    Args:
        tensors: names to tensors, of any shape and on any device.
        identity: the config (and whatever else decides the trajectory) as text; `load` wants the same text.

    Raises:
        CheckpointError: the disk is full or refuses; what was at ``path`` before is then still there.
    """
    path = Path(path)
    # Copies, because safetensors refuses tensors that share memory.
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(own, temporary, metadata={"format": FORMAT, "identity": identity, "step": str(step)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {path} was not written: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # after a success it is gone
            temporary.unlink()


def load(
    path: Path | str, *, identity: str, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], int]:
    """The tensors and the step that `save` wrote.

    Raises:
        CheckpointError: if the file is missing, truncated, no checkpoint of ours, or one of another config.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path} is not a checkpoint of this library")
            if metadata["identity"] != identity:
                raise CheckpointError(
                    f"{path} is a checkpoint of another configuration; remove it or name another file"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, int(metadata["step"])  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged or truncated ({error})") from None

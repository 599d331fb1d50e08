"""What runs the network: our kernels, on a GPU through torch. Torch is imported only for the latter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leyolo.errors import MissingDependencyError, UsageError, nearest
from leyolo.predict.pipeline import Engine

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint

_DTYPES = ("float32", "float16", "bfloat16", "tf32")


def check_device(device: str | int | None) -> str:
    """``"cpu"`` or ``"cuda:N"``; a bare number is a GPU, as ultralytics' users write it."""
    text = "cpu" if device is None else str(device).lower()
    match = re.fullmatch(r"(?:cuda:?)?(\d*)", text)
    if text == "cpu":
        return text
    if match is None:
        raise UsageError(f"device must be cpu, cuda or cuda:N, got '{device}'.{nearest(text, ('cpu', 'cuda'))}")
    return f"cuda:{match[1] or 0}"


def check_dtype(dtype: Any, device: str) -> str:
    default = "float32" if device == "cpu" else "float16"
    text = default if dtype is None else str(dtype).removeprefix("torch.")
    text = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}.get(text, text)
    if text not in _DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(_DTYPES)}, got '{dtype}'.{nearest(text, _DTYPES)}")
    if device != "cpu":
        return text
    if text in ("float16", "tf32"):
        raise UsageError(f"dtype {text} needs device='cuda': prediction on the CPU runs in float32 or bfloat16")
    from leyolo.runtime.dtype import usable

    return usable(text, stacklevel=4)  # the line that makes the model


def load_weights(model: str | Path | None) -> Checkpoint:
    """The weights that ``model`` names: a file, a model name (fetched once), or None for those inside the package."""
    from leyolo import weights
    from leyolo.assets import DEFAULT, PACKAGED

    # Inside the package by its path: a file of that name may lie in the working directory.
    return weights.load(PACKAGED[DEFAULT] if model is None else weights.resolve(model))


def engine(checkpoint: Checkpoint, device: str, dtype: str, *, cuda_graph: bool = False) -> Engine:
    if device == "cpu":
        from leyolo.runtime import Engine as CpuEngine

        return CpuEngine(checkpoint, dtype=dtype)
    _cuda_torch(device)
    if has_kernels():
        from leyolo.predict.gpu import GpuEngine

        return GpuEngine(checkpoint, device, dtype, cuda_graph=cuda_graph)
    if cuda_graph:
        raise MissingDependencyError(
            "cuda_graph needs leyolo's CUDA kernels, and this build has none\n"
            "Build leyolo where nvcc is found (leyolo doctor)"
        )
    return TorchEngine(checkpoint, device, dtype)


def has_kernels() -> bool:
    """Whether this build has CUDA kernels."""
    import leyolo._C as C

    return bool(C.build_info()["cuda"])


def _cuda_torch(device: str) -> Any:
    torch = need_torch(f"device {device}")
    if not torch.cuda.is_available():
        raise MissingDependencyError(f"device {device}: this torch ({torch.__version__}) sees no CUDA device")
    return torch


def need_torch(why: str) -> Any:
    """Torch; MissingDependencyError where it is not usable."""
    try:
        import torch
    except Exception as error:
        raise MissingDependencyError(f"{why} needs torch, which is not usable here ({error})") from None
    return torch


def network(checkpoint: Checkpoint, device: str, dtype: str, *, fused: bool) -> Any:
    """The torch network with these weights, channels last, in eval mode; ``fused``: folded, and one operator where we
    have kernels."""
    torch = need_torch("the torch network") if device == "cpu" else _cuda_torch(device)
    from leyolo.models.transfer import to_torch

    if fused and (device == "cpu" or has_kernels()):
        from leyolo.models.fused import FusedNetwork

        return FusedNetwork(checkpoint, dtype, device=device)
    made = to_torch(checkpoint).eval().to(device, getattr(torch, dtype))
    return made.fold() if fused else made


class TorchEngine:
    """The torch network behind the engine's signature, where we have no kernels: numpy in, numpy out."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: str) -> None:
        self._torch = need_torch(f"device {device}")
        self._network = network(checkpoint, device, dtype, fused=True)
        self._device, self._dtype = device, getattr(self._torch, dtype)

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            # NHWC memory seen as NCHW is what torch calls channels_last.
            y = self._torch.from_numpy(x).to(self._device, self._dtype).permute(0, 3, 1, 2)
            logits: NDArray[np.float32] = self._network(y).float().cpu().numpy()
        return logits


def with_new_head(checkpoint: Checkpoint, num_classes: int, head: str) -> Checkpoint:
    """The same body for other classes or with a head of the other kind; what the weights cannot give is untrained."""
    need_torch("a new head")
    from leyolo.models.network import build
    from leyolo.models.transfer import from_torch, to_torch

    if head == checkpoint.head:
        network = to_torch(checkpoint, num_classes)
    else:
        network = build(checkpoint.size, num_classes, head)
        network.layers.load_state_dict(to_torch(checkpoint).layers.state_dict())
    names = checkpoint.names if num_classes == checkpoint.num_classes else None
    return from_torch(network, names, checkpoint.metadata)

"""Several processes as one: ``torchrun`` starts them, this joins them.

Each process learns from its own pictures; gradients are averaged, loss normalisers summed, so that N processes take the
steps that one would take with N times the batch (batch norm statistics apart, unless they are shared too).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leyolo.errors import LeYOLOError, MissingDependencyError
from leyolo.nn import BatchNorm
from leyolo.predict.backends import check_device, has_kernels


class ProcessError(LeYOLOError):
    """Another process of the run ended or hangs."""


@dataclass(frozen=True)
class Group:
    """The processes of a run, as one of them (``rank`` of ``world``) sees them; ``device`` is its own."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        if self.world > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """Every process's ``value``, on every process, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def led(self, work: Callable[[], Any]) -> Any:
        """What ``work()`` gives on the leading process, which alone does it; what it raises of ours, all raise."""
        outcome: Any = None
        if self.leads:
            try:
                outcome = work()
            except LeYOLOError as error:
                outcome = error
        outcome = self.gather(outcome)[0]
        if isinstance(outcome, LeYOLOError):
            raise outcome
        return outcome

    def align(self, tensors: list[Tensor]) -> None:
        """Replaces tensors in place by their mean over all processes."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        means = torch.split(flat / self.world, [t.numel() for t in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wrap(self, network: nn.Module, sync_bn: bool) -> nn.Module:
        """The network as it is called in training: gradients meet after backward."""
        if self.world == 1:
            return network
        if sync_bn:
            share_batch_norm(network)
        # Statistics are aligned once an epoch (align); torch would send them before every step.
        known = inspect.signature(DistributedDataParallel).parameters
        quiet: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
        }
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, ids, gradient_as_bucket_view=True, **quiet)


@contextmanager
def joined(device: str, timeout: int) -> Iterator[Group]:
    """The group that ``torchrun`` describes in the environment, or a group of one.

    Args:
        device: cpu or cuda[:N]; each process of several takes the GPU of its local rank.
        timeout: seconds that an exchange may take before the run ends.

    Raises:
        ProcessError: another process ended or did not answer in time.
    """
    world, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    device = check_device(device)
    if world == 1:
        yield Group(0, 1, _device(device))
        return
    if device != "cpu":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    mine = _device(device)
    try:
        dist.init_process_group("nccl" if mine.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout))
        yield Group(rank, world, mine)
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, LeYOLOError) or not _is_about_a_peer(error):
            raise
        raise ProcessError(
            f"process {rank} of {world}: another process of this run ended, or did not answer within {timeout} s\n"
            f"Its own message says why. Go on from the last saved state with --resume. ({str(error)[:200]})"
        ) from error
    else:  # not after a failure: leaving in order would wait for the process that is gone
        dist.destroy_process_group()


def _is_about_a_peer(error: BaseException) -> bool:
    text = str(error).lower()
    signs = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "nccl", "peer", "gloo")
    return isinstance(error, dist.DistError) or any(sign in text for sign in signs)


def _device(device: str) -> torch.device:
    found = torch.device(device)
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise MissingDependencyError(f"device {device}: this torch ({torch.__version__}) sees no CUDA device")
        if not has_kernels():  # losses and assigners are ours
            raise MissingDependencyError(
                "training on a GPU needs leyolo's CUDA kernels, and this build has none\n"
                "Build leyolo where nvcc is found (leyolo doctor)"
            )
        if (found.index or 0) >= (count := torch.cuda.device_count()):
            raise MissingDependencyError(f"device {device}: this machine has {count} CUDA devices, numbered from 0")
        torch.cuda.set_device(found)
    return found


class _Sum(torch.autograd.Function):
    """The sum over all processes, with a gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class SharedBatchNorm(BatchNorm):
    """Batch norm over the batches of all processes; on the CPU too, where torch's ``SyncBatchNorm`` does not run."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.double() if x.dtype == torch.float64 else x.float()
        own = torch.cat([values.sum((0, 2, 3)), values.new_full((1,), x.numel() / x.shape[1])])
        summed: Tensor = _Sum.apply(own)  # type: ignore[no-untyped-call]
        count = summed[-1].detach()
        mean = summed[:-1] / count
        centred = values - mean[:, None, None]
        variance: Tensor = _Sum.apply(centred.square().sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_batch_norm(network: nn.Module) -> None:
    """Replaces every :class:`BatchNorm` by one over all processes; parameters stay the same objects."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is BatchNorm:
                shared = SharedBatchNorm(child.num_features)
                shared.weight, shared.bias = child.weight, child.bias
                shared.running_mean, shared.running_var = child.running_mean, child.running_var
                shared.momentum = child.momentum
                shared.train(child.training)
                setattr(parent, name, shared)

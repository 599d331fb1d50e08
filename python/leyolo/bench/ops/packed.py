"""Parts of the network as our fused forward pass runs them: weights packed once, maps in one arena."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

import leyolo._C as C
from leyolo.bench.ops.case import Contestant
from leyolo.bench.ops.modules import network
from leyolo.models.transfer import from_torch
from leyolo.ops.forward import forward
from leyolo.runtime.chains import Streaming, chains
from leyolo.runtime.fold import fold
from leyolo.runtime.lower import Network, _Lowering
from leyolo.runtime.pack import Packed
from leyolo.runtime.program import NONE, OUTPUT, SILU, Buffer, Slot


@cache
def _network(size: str) -> Network:
    checkpoint = from_torch(network(size))
    return Network(network(size).config, checkpoint.head, checkpoint.num_classes, fold(checkpoint.state))


class _Part(_Lowering):
    """Some layers alone, each into memory of its own or where ``targets`` says. Their input ``x`` lies in the arena,
    from where a residual can be read, and is not overwritten."""

    def __init__(self, size: str, imgsz: int, x: Tensor) -> None:
        super().__init__(_network(size), imgsz, imgsz, from_bytes=False, features=False)
        self.x = x.contiguous(memory_format=torch.channels_last)
        _, channels, height, width = x.shape
        self.source = Slot.whole(self.builder.buffer(height, width, channels))
        self.targets: dict[int, Slot] = {}

    def _into(self, index: int) -> Slot | None:
        return self.targets.get(index)

    def contestant(
        self,
        target: Buffer,
        threads: int,
        *,
        share: float = Streaming.share,
        rows: bool = False,
        weight: Packed | None = None,
    ) -> Contestant:
        """Runs what was lowered into ``target``; its result is [1, H * W, C] with ``rows``, else [1, C, H, W].
        ``share`` as in :class:`Streaming`; ``weight`` is the only one, instead of the network's."""
        buffer = self.source.buffer
        buffer.last = len(self.builder.steps)
        streaming = Streaming(threads, C.cpu_features()["l2_bytes"], share)
        shape = target.height, target.width, target.channels
        used = sorted({step.weight for step in self.builder.steps if step.weight >= 0})
        for step in self.builder.steps:
            step.weight = used.index(step.weight) if step.weight >= 0 else -1
        program = self.builder.finish(shape, chains(self.builder.steps, streaming))
        arena = torch.zeros(program.arena_size)
        arena[buffer.offset : buffer.offset + self.x.numel()] = self.x.permute(0, 2, 3, 1).flatten()
        image = self.x[:, :1, :1, :1]  # not read
        # Of the rest every call would have to look at every one.
        kept = [self.network.weights[i] for i in used] if weight is None else [weight]
        weights = [torch.from_numpy(w) for w in kept]
        arguments = torch.from_numpy(program.steps), weights, arena, program.arena_size, list(program.shape)
        return Contestant(
            lambda: forward(image, *arguments),
            lambda y: [y.flatten(1, 2) if rows else y.permute(0, 3, 1, 2)],
        )


def packed_layers(
    size: str, indices: Sequence[int], imgsz: int, x: Tensor, threads: int, share: float = Streaming.share
) -> Contestant:
    """The layers ``indices``, each reading the one before it, on ``x`` [1, C, H, W]: the last map. ``share`` 0: row by
    row wherever that is possible; infinite: step by step."""
    part = _Part(size, imgsz, x)
    last = part.config.layers[indices[-1]]
    side = imgsz // last.reduction
    target = Buffer(side, side, last.out_channels, space=OUTPUT)
    part.slots[part.config.layers[indices[0]].inputs[0]] = part.source
    part.targets[indices[-1]] = Slot.whole(target)
    for index in indices:
        part.slots[index] = part._layer(index)
    return part.contestant(target, threads, share=share)


def packed_conv2d(size: str, imgsz: int, conv: nn.Conv2d, activation: str, x: Tensor, threads: int) -> Contestant:
    """A dense convolution of the network, with its bias, on ``x`` [1, C, H, W]."""
    part = _Part(size, imgsz, x)
    stride = conv.stride[0]
    target = Buffer(x.shape[2] // stride, x.shape[3] // stride, conv.out_channels, space=OUTPUT)
    part.builder.conv2d(
        *(part.source, 0, conv.out_channels),
        kernel=conv.kernel_size[0],
        stride=stride,
        activation=SILU if activation == "silu" else NONE,
        into=Slot.whole(target),
    )
    assert conv.bias is not None
    weight = conv.weight.detach().contiguous().numpy()
    return part.contestant(target, threads, weight=C.conv2d_pack(weight, conv.bias.detach().numpy()))


def packed_max_pool2d(size: str, imgsz: int, kernel: int, x: Tensor, threads: int) -> Contestant:
    """One stride-1 max pool on ``x`` [1, C, H, W]."""
    part = _Part(size, imgsz, x)
    target = Buffer(x.shape[2], x.shape[3], x.shape[1], space=OUTPUT)
    part.builder.max_pool(part.source, Slot.whole(target), kernel=kernel)
    return part.contestant(target, threads)


def packed_level(size: str, level: int, imgsz: int, x: Tensor, threads: int) -> Contestant:
    """One level of the head on ``x`` [1, C, H, W]: its rows of the logits [1, H * W, K]."""
    part = _Part(size, imgsz, x)
    target = Buffer(x.shape[2], x.shape[3], part.network.outputs, space=OUTPUT)
    part._leyolo_level(level, part.source, target)
    return part.contestant(target, threads, rows=True)

"""Several processes that train one network together, as torchrun starts them; or one that trains alone.

Every process has the whole network and a part of each batch. They meet in a fixed order of exchanges, so whatever only
one of them can know (an error, a signal, the time) is exchanged before anyone acts on it.
"""

import contextlib
import inspect
import io
import json
import os
import platform
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from datetime import timedelta
from typing import Any, Final, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from seglab.device import Device, num_cpus
from seglab.errors import DataError, DeviceError, ExitCode, SeglabError, UsageError, first_line
from seglab.training.signals import StopRequest

__all__ = ["ALONE", "Accord", "Team", "join_team", "launch_name", "was_restarted"]

TIMEOUT_S: Final = 1800.0
"""Seconds that a process waits for the others; one that ends is noticed at once."""

T = TypeVar("T")
S = TypeVar("S", bound=Sized)


# Newer versions of torch warn of the old name.
_NAMES: Final = inspect.signature(DistributedDataParallel).parameters
_NO_BUFFERS: Final[dict[str, Any]] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
"""DistributedDataParallel leaves buffers alone: :meth:`Team.align` takes their mean."""


class Team:
    """The processes that train together, seen by one of them. Alone, nothing here costs anything.

    Args:
        rank: Number of this process, from 0.
        size: How many there are.
        local_size: How many of them are on this machine.
        device: Where this one computes.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1, device: torch.device | None = None) -> None:
        self.rank = rank
        self.size = size
        self.local_size = local_size
        self._device = device or torch.device("cpu")

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    @property
    def num_workers(self) -> int | None:
        """Threads that make batches, so that the processes of a machine share its CPUs; None alone."""
        return None if self.size == 1 else max(1, num_cpus() // self.local_size)

    def prepare(self, network: nn.Module, *, sync_bn: bool) -> nn.Module:
        """Return a network with batch normalisation over the whole team, if that is wanted.

        Raises:
            DeviceError: If it is wanted and the processes compute on the CPU.
        """
        if not sync_bn or self.size == 1:
            return network
        if self._device.type != "cuda":
            raise DeviceError(
                "`sync_bn` needs GPUs: torch has no such batch normalisation for the CPU",
                "leave it out; the statistics that are saved are means over the processes",
            )
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted

    def share_weights(self, network: nn.Module) -> None:
        """Give all processes the weights and buffers of the first."""
        for tensor in (*network.parameters(), *network.buffers()) if self.size > 1 else ():
            with self._noticing(), torch.no_grad():
                dist.broadcast(tensor, src=0)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients become the mean over the team during the backward pass."""
        if self.size == 1:
            return network
        indices = [self._device.index] if self._device.type == "cuda" else None
        return DistributedDataParallel(network, indices, gradient_as_bucket_view=True, **_NO_BUFFERS)

    @contextlib.contextmanager
    def reducing(self, wrapped: nn.Module, now: bool) -> Iterator[None]:
        """Exchange gradients in a forward and backward pass only if ``now``; otherwise they add up here."""
        hold = not now and isinstance(wrapped, DistributedDataParallel)
        with self._noticing(), wrapped.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
            yield

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over the team of a tensor on its device, exact for whole numbers."""
        if self.size > 1:
            tensor = tensor.clone()
            with self._noticing():
                dist.all_reduce(tensor)
        return tensor

    @torch.no_grad()
    def align(self, network: nn.Module) -> None:
        """Make the statistics of batch normalisation the mean over the team, so that all processes have the same."""
        if self.size == 1:
            return
        layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.training]
        own = [layer for layer in layers if not isinstance(layer, nn.SyncBatchNorm)]
        buffers = [buffer for layer in own for buffer in (layer.running_mean, layer.running_var) if buffer is not None]
        if buffers:
            flat = self.sum(torch.cat([buffer.flatten() for buffer in buffers])) / self.size
            torch._foreach_copy_(buffers, list(torch.split(flat, [buffer.numel() for buffer in buffers])))

    def gather(self, value: T) -> list[T]:
        """Return a JSON value of every process, by rank."""
        if self.size == 1:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with self._noticing():
            lengths = torch.zeros(self.size, dtype=torch.int64)
            lengths[self.rank] = len(mine)
            dist.all_reduce(lengths)
            rows = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8)
            rows[self.rank, : len(mine)] = mine
            dist.all_reduce(rows)
        pairs = zip(rows, lengths.tolist(), strict=True)
        return [json.loads(bytes(row[:length].numpy())) for row, length in pairs]

    def share_state(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the first process's nested tables of tensors and plain values; those of the others are ignored."""
        if self.size == 1:
            return state
        stream = io.BytesIO()
        if self.is_first:
            torch.save(state, stream)
        (length, *_) = self.gather(len(stream.getbuffer()))
        content = torch.frombuffer(bytearray(stream.getvalue() or bytes(length)), dtype=torch.uint8)
        with self._noticing():
            dist.broadcast(content, src=0)
        shared: dict[str, Any] | None = torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)  # noqa: TID251
        return shared

    def check_same(self, what: Mapping[str, Any]) -> None:
        """Make sure that all processes were started with the same settings.

        Raises:
            UsageError: If not; the first difference is named.
        """
        first, *others = self.gather(dict(what))
        for rank, other in enumerate(others, 1):
            for name, value in first.items():
                if other[name] != value:
                    raise self.everywhere(UsageError(
                        f"process {rank} was started with {name} `{other[name]}`, but process 0 with `{value}`",
                        "give torchrun the same command on every machine, and the same data",
                    ))  # fmt: skip

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Fail everywhere if the block, in which there is no exchange, fails in one process.

        Raises:
            SeglabError: That of the first process that failed.
        """
        failure: SeglabError | None = None
        try:
            yield
        except SeglabError as error:
            failure = error
        self.meet(failure)

    def meet(self, failure: SeglabError | None) -> None:
        """Say whether this process failed; fail if any did.

        Raises:
            SeglabError: That of the first process that failed.
        """
        if self.size == 1 and failure is not None:
            raise failure
        if self.size > 1 and int(self.sum(torch.tensor(failure is not None, dtype=torch.int64))):
            self.fail(failure)

    def fail(self, failure: SeglabError | None) -> NoReturn:
        """Fail, after all processes learned that one of them does.

        Raises:
            SeglabError: That of the first process that failed.
        """
        mine = None if failure is None else (failure.message, failure.hint, int(failure.exit_code))
        rank, (message, hint, code) = next((rank, said) for rank, said in enumerate(self.gather(mine)) if said)
        if rank == self.rank and failure is not None:
            raise self.everywhere(failure)
        error = DataError(f"{message} (process {rank})", hint)
        error.exit_code = ExitCode(code)
        raise self.everywhere(error)

    def everywhere(self, error: SeglabError) -> SeglabError:
        """Return an error that all processes raise, so that one alone tells it."""
        error.told_elsewhere = not self.is_first
        return error

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """Turn the end of another process into an error of ours."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise self.everywhere(DeviceError(
                "another process of this run has ended, so this one ends too",
                "`torchrun --max-restarts N` starts them again and goes on from what was saved last",
            )) from error  # fmt: skip


ALONE: Final = Team()
"""One process."""


class Accord:
    """What a team agrees on before each step: the time, signals, and how many samples there are.

    Alone, time and signals are those of the moment; otherwise those of the last :meth:`renew`, the time being the first
    process's, so that all decide alike.

    Args:
        team: All processes make one, and renew it as often.
        stop: The signals of this process.
        spent_s: Seconds of the run before.
    """

    def __init__(self, team: Team, stop: StopRequest, spent_s: float) -> None:
        self._team = team
        self._stop = stop
        self._began_s = time.monotonic() - spent_s
        self._agreed_s = spent_s
        self._agreed_stop = False
        self.num_samples = 0
        """Samples of the present step, all processes together."""

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, all parts together."""
        return time.monotonic() - self._began_s if self._team.size == 1 else self._agreed_s

    @property
    def must_stop(self) -> bool:
        """Whether any process was asked to stop."""
        return bool(self._stop) if self._team.size == 1 else self._agreed_stop

    def renew(self, num_samples: int = 0, failure: SeglabError | None = None) -> None:
        """Agree with the others.

        Args:
            num_samples: Samples of this process in the coming step.
            failure: Why this process cannot go on.

        Raises:
            SeglabError: If any process cannot go on.
        """
        self.num_samples = num_samples
        if self._team.size == 1:
            self._team.meet(failure)
            return
        mine = self._stop.signal
        seconds = time.monotonic() - self._began_s if self._team.is_first else 0.0
        says = [seconds, num_samples, failure is not None, mine == signal.SIGINT, mine == signal.SIGTERM]
        self._agreed_s, samples, failed, by_hand, terminated = self._team.sum(
            torch.tensor(says, dtype=torch.float64)
        ).tolist()  # fmt: skip
        self.num_samples = round(samples)
        if failed:
            self._team.fail(failure)
        if by_hand or terminated:
            self._agreed_stop = True
            self._stop.signal = signal.SIGTERM if terminated else signal.SIGINT

    def each(self, items: Iterable[S]) -> Iterator[S]:
        """Pass on the samples of each step, agreed upon; all processes have the same number of steps.

        Raises:
            SeglabError: If any process cannot make its samples.
        """
        iterator = iter(items)
        while True:
            failure: SeglabError | None = None
            try:
                item = next(iterator)
            except StopIteration:
                return
            except SeglabError as error:
                failure = error
            self.renew(0 if failure else len(item), failure)
            yield item


@contextlib.contextmanager
def join_team(device: Device) -> Iterator[Team]:
    """Meet the other processes that torchrun started, for the length of the block; alone without torchrun.

    Raises:
        UsageError: If torchrun's variables make no sense.
        DeviceError: If the device cannot exchange anything, or the others do not come.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    if device.kind not in ("cpu", "cuda"):
        raise DeviceError(f"several processes cannot train on `{device.name}`", "`--device cpu`, or one process")
    place = device.torch()
    if device.kind == "cuda":
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if device.kind == "cuda" else "gloo"
    try:
        timeout = timedelta(seconds=TIMEOUT_S)
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        # torchrun may go on with its store, in which processes that have ended left their addresses.
        attempt = f"attempt {_number('TORCHELASTIC_RESTART_COUNT', 0)}"
        store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f"the processes of this run do not find each other: {first_line(error)}", "start them with torchrun"
        ) from error
    try:
        yield Team(rank, size, _number("LOCAL_WORLD_SIZE", 1), place)
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def launch_name() -> str:
    """Return a name that the processes of one torchrun share with those that it starts in their place; else empty."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return f"{platform.node()}:{os.getppid()}" if name in ("", "none") else name


def was_restarted() -> bool:
    """Tell whether torchrun started this process in the place of one that ended."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) > 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal():
        raise UsageError(f"`{name}={text}` is no number", "torchrun sets it; otherwise leave it unset")
    return int(text)

"""onnxruntime sessions: providers, threads, and one way to open them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from agelens.advice import either_way
from agelens.errors import DamagedModelError, DeviceError, DeviceWarning, UsageError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
DEVICES = ("auto", *PROVIDERS)
ort.disable_telemetry_events()  # builds for Windows would report events
RUNTIME_ERRORS = (
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)
"""What onnxruntime raises on a model that it can't open or run; its exceptions share no base class."""


_PROBE = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f'
    b"\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX file whose one node gives back its one number."""


def resolve_device(device: str = "auto") -> str:
    """The device that sessions will run on: `auto` takes CUDA where it can be used and the CPU otherwise.

    Where onnxruntime offers CUDA and can't use it, for want of a driver or of libraries, `auto` says so by a
    `DeviceWarning`.

    Raises:
        DeviceError: The device is unknown, this onnxruntime build doesn't offer it, or it can't be used. There is no
            silent fallback.
    """
    available = ort.get_available_providers()
    if device == "auto":
        if PROVIDERS["cuda"] not in available:
            return "cpu"
        if _is_usable("cuda"):
            return "cuda"
        warnings.warn(f"{_explain_unusable('cuda')}; the cpu does the work", DeviceWarning, stacklevel=2)
        return "cpu"
    if device not in PROVIDERS:
        raise DeviceError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")
    if PROVIDERS[device] not in available:
        offered = ", ".join(name for name, provider in PROVIDERS.items() if provider in available)
        raise DeviceError(
            f"device {device!r} is not offered by the installed onnxruntime (it offers: {offered}); install the build"
            " that does, such as onnxruntime-gpu for cuda, or choose the device auto"
        )
    if device != "cpu" and not _is_usable(device):
        raise DeviceError(f"{_explain_unusable(device)}, or choose the device auto")
    return device


def _explain_unusable(device: str) -> str:
    return (
        f"onnxruntime offers {device!r} and can't use it here; install its driver and the libraries that this"
        " onnxruntime needs"
    )


@cache
def _is_usable(device: str) -> bool:
    """Whether a session really runs there: what is offered was built in, and may lack its driver or libraries."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it would tell of each library that it misses
    wanted = PROVIDERS[device]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session = ort.InferenceSession(_PROBE, options, providers=[wanted, PROVIDERS["cpu"]], enable_fallback=0)
    except (*RUNTIME_ERRORS, ValueError, RuntimeError):
        return False
    return wanted in session.get_providers()


def open_session(model: bytes, *, name: str, device: str = "cpu", threads: int = 1) -> ort.InferenceSession:
    """Opens a session on an ONNX file held in memory.

    Args:
        model: The bytes of the file.
        name: How messages call it.
        device: A resolved device, see `resolve_device`.
        threads: Threads inside one call. One is right where several calls run side by side.

    Raises:
        DamagedModelError: onnxruntime can't read the bytes.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Denormal weights made a graph 15 times slower, but `session.set_denormal_as_zero` would leave the caller's thread
    # in that mode for good; so `agelens export` writes none. Spinning threads burn a core that the decoder needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [PROVIDERS[device]]
    if device != "cpu":
        providers.append(PROVIDERS["cpu"])
    try:
        # Its fallback would print to standard output and go on without the device that was asked for.
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except (*RUNTIME_ERRORS, ValueError, RuntimeError) as error:  # the latter: of its Python layer
        raise DamagedModelError(
            f"the model {name} can't be opened ({first_line(error)}); install it again, or check it with"
            " `agelens models verify`"
        ) from error


@contextmanager
def typed_thread_errors() -> Iterator[None]:
    """Turns the system's refusal to start a thread, of which containers often bound the number, into a UsageError."""
    try:
        yield
    except RuntimeError as error:
        how = either_way("--threads 1", "threads=1")
        raise UsageError(f"the system starts no further thread; choose fewer ({how})") from error


def first_line(error: BaseException) -> str:
    """What an error of onnxruntime says, shortened: the rest is for its developers."""
    return str(error).partition("\n")[0][:200] or type(error).__name__

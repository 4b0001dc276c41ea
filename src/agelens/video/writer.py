"""Frames -> a video file that can be played whatever becomes of the program that writes it.

MP4 and QuickTime are written in fragments of two seconds and turned into a plain file at the end; Matroska and WebM are
readable up to their last cluster by nature. So after Ctrl-C or `kill` the file is complete, and after `kill -9` or a
power cut what was written lies beside it under a hidden name, playable to within the last seconds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from PIL import Image as PillowImage

from agelens.cores import count_cores
from agelens.errors import MissingCodecError, UsageError
from agelens.outfile import Closing, Target
from agelens.video.backend import Native, load_av
from agelens.video.frames import HIGH

if TYPE_CHECKING:
    from agelens.types import Pixels

FRAGMENT: Final = 2.0
"""Seconds between two frames from which decoding can begin: what an interruption without warning costs at most."""

_MOVIE: Final = {"movflags": "hybrid_fragmented+frag_keyframe+default_base_moof", "video_track_timescale": "90000"}


@dataclass(frozen=True, slots=True)
class _Container:
    """How a kind of file is written.

    Attributes:
        name: FFmpeg's name of it.
        codecs: For the picture, the better ones first.
        sounds: Codecs of sound that it takes as they are; empty: all.
        sound: For sound that has to be coded again.
        options: Of its muxer.
    """

    name: str
    codecs: tuple[str, ...]
    sounds: frozenset[str]
    sound: str
    options: Mapping[str, str]


_H264: Final = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")
_MP4_SOUND: Final = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_CONTAINERS: Final = {
    ".mp4": _Container("mp4", _H264, _MP4_SOUND, "aac", _MOVIE),
    ".m4v": _Container("mp4", _H264, _MP4_SOUND, "aac", _MOVIE),
    ".mov": _Container("mov", _H264, _MP4_SOUND | {"pcm_s16le", "pcm_s16be", "pcm_s24le"}, "aac", _MOVIE),
    ".mkv": _Container("matroska", _H264, frozenset(), "aac", {}),
    ".webm": _Container("webm", ("libvpx-vp9", "libvpx"), frozenset({"opus", "vorbis"}), "libopus", {}),
    ".avi": _Container("avi", ("mpeg4", "mjpeg"), frozenset({"mp3", "ac3", "pcm_s16le"}), "libmp3lame", {}),
}
VIDEO_ENDINGS: Final = tuple(_CONTAINERS)
"""The endings of names that can be written."""

_OPTIONS: Final[dict[str, dict[str, str]]] = {
    # Without frames that are coded out of order: times begin at 0 in every player, and encoding is faster.
    "libx264": {"preset": "superfast", "crf": "21", "bf": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "32", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "16", "b": "4000000"},
    "mpeg4": {"qscale": "4", "flags": "+qscale"},
    "mjpeg": {"qscale": "4", "flags": "+qscale"},
}
_BT709, _BT601 = 1, 6  # as ITU-T H.273 numbers matrix, primaries and transfer alike
_LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_FULL_RANGE: Final = frozenset({"mjpeg"})


class VideoWriter(Closing):
    """Writes one video; it has its name once it is closed, and is closed whatever ends the `with` block.

    Args:
        path: The file; its ending says which kind.
        size: Width and height of the frames. An odd one is made even by repeating the last row or column, since the
            common codecs halve colours.
        rate: Frames per second, on average; each frame's own time counts.
        sounds: Streams of sound of an open `VideoReader`, to be taken along.
        pixel_shape: Width of a pixel against its height, where it isn't 1.

    Raises:
        UsageError: The ending is unknown.
        MissingCodecError: None of the codecs that fit is there.
        OutputError: The file can't be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        rate: Fraction,
        *,
        sounds: Sequence[Native] = (),
        pixel_shape: Fraction | None = None,
    ) -> None:
        super().__init__(os.fspath(path))
        self._av = load_av()
        kind = _CONTAINERS.get(Path(path).suffix.lower())
        if kind is None:
            raise UsageError(f"cannot write {path}: a video's name ends in one of {' '.join(VIDEO_ENDINGS)}")
        self._kind = kind
        codec = self._choose_codec(kind)
        self._target = Target(path)
        self._size = size
        with self._typed_errors():
            self._file: IO[bytes] = self._target.part.open("wb+")
            self._container = self._av.open(self._file, "w", format=kind.name, options=dict(kind.options))
        # A unit that all containers and codecs take; the time of a frame is true to half a millisecond or better.
        self._unit = Fraction(1, 90_000) if codec.startswith(("libx264", "libvpx")) else Fraction(1, 1000)
        self._stream = self._container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        context = self._stream.codec_context
        context.width, context.height = size[0] + size[0] % 2, size[1] + size[1] % 2
        context.pix_fmt = "yuvj420p" if codec in _FULL_RANGE else "yuv420p"
        context.time_base = self._unit
        context.thread_count = count_cores()
        context.options = dict(_OPTIONS.get(codec, {})) | {"g": str(max(round(FRAGMENT * rate), 1))}
        self._colours = "ITU709" if size[1] >= HIGH else "ITU601"
        standard = _BT709 if size[1] >= HIGH else _BT601
        context.colorspace = context.color_primaries = context.color_trc = standard
        if pixel_shape is not None:
            context.sample_aspect_ratio = pixel_shape
        context.flags |= int(self._av.codec.context.Flags.frame_duration)  # or encoders pass none on
        self._period = 1 / float(rate)
        self._last = -1
        self._sounds = {stream.index: _Sound(self._av, self._container, stream, kind) for stream in sounds}

    @property
    def is_empty(self) -> bool:
        """Whether no frame was written yet."""
        return self._last < 0

    def write(self, pixels: Pixels, seconds: float, duration: float | None = None) -> None:
        """Takes one frame, RGB uint8 of shape (H, W, 3), to be shown from `seconds` on.

        Args:
            pixels: The frame.
            seconds: Since the beginning.
            duration: How long it is shown if it is the last one; None: as by the rate.

        Raises:
            OutputError: It can't be written.
        """
        self._check_open()
        av = self._av
        frame = av.VideoFrame.from_ndarray(self._fitted(pixels), format="rgb24")
        frame = frame.reformat(
            format=self._stream.codec_context.pix_fmt, dst_colorspace=self._colours, interpolation="FAST_BILINEAR"
        )
        stamp = max(round(seconds / self._unit), self._last + 1)
        frame.pts, frame.time_base = stamp, self._unit
        frame.duration = max(round((self._period if duration is None else duration) / self._unit), 1)
        with self._typed_errors():
            if self.is_empty:  # a file that was begun and holds no frame would crash FFmpeg at its end
                self._start()
            self._last = stamp
            self._mux(self._stream.encode(frame))

    def write_sound(self, packet: Native, seconds: float) -> None:
        """Takes a packet of sound of one of the streams, to be heard from `seconds` on; none before the first frame.

        Raises:
            OutputError: It can't be written.
        """
        sound = self._sounds.get(packet.stream.index)
        if sound is not None and seconds >= 0 and not self.is_empty:
            with self._typed_errors():
                self._mux(sound.take(packet, seconds))

    def _fitted(self, pixels: Pixels) -> Pixels:
        width, height = self._size
        if pixels.shape[:2] != (height, width):  # a stream may change its size
            pixels = np.asarray(PillowImage.fromarray(pixels).resize((width, height)))
        if width % 2 or height % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return np.ascontiguousarray(pixels)

    def _choose_codec(self, kind: _Container) -> str:
        for name in kind.codecs:
            with contextlib.suppress(self._av.error.FFmpegError, ValueError):
                if self._av.codec.Codec(name, "w").name == name:
                    return name
        raise MissingCodecError(
            f"this build of FFmpeg encodes none of {', '.join(kind.codecs)}, which {kind.name} needs; choose another"
            f" ending ({' '.join(VIDEO_ENDINGS)}), or install PyAV from PyPI"
        )

    def _start(self) -> None:
        try:
            self._container.start_encoding()
        except (self._av.error.FFmpegError, ValueError) as error:
            raise OSError(getattr(error, "errno", None), str(error)) from error

    def _mux(self, packets: Iterable[Native]) -> None:
        try:
            for packet in packets:
                self._container.mux(packet)
        except self._av.error.FFmpegError as error:
            raise OSError(getattr(error, "errno", None), str(error)) from error

    def _complete(self) -> None:
        if not self.is_empty:
            self._mux(self._stream.encode(None))
            for sound in self._sounds.values():
                self._mux(sound.finish())
        try:
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise OSError(getattr(error, "errno", None), str(error)) from error
        self._file.flush()
        if not self._target.direct:
            os.fsync(self._file.fileno())
        self._file.close()
        if self.is_empty:
            self._target.discard()
        else:
            self._target.commit()

    def _abandon(self) -> Path | None:
        """Keeps what is on the disk: the file can be played up to the last fragment."""
        with contextlib.suppress(OSError, self._av.error.FFmpegError, AttributeError):
            self._container.close()
        with contextlib.suppress(OSError, AttributeError):
            self._file.close()
        with contextlib.suppress(OSError):
            if self._target.part.stat().st_size > 0:
                return self._target.part
            self._target.discard()
        return None


class _Sound:
    """One stream of sound: copied where the container takes its codec, coded again where it doesn't."""

    def __init__(self, av: Native, container: Native, source: Native, kind: _Container) -> None:
        self._av = av
        self._copied = not kind.sounds or source.codec_context.codec.canonical_name in kind.sounds
        self._resampler: Native = None
        self._stamp: int | None = None  # of the last packet that was copied
        if self._copied:
            self._stream = container.add_stream_from_template(source)
            return
        rate = 48_000 if kind.sound == "libopus" else source.codec_context.sample_rate
        self._stream = container.add_stream(kind.sound, rate=rate)
        # Named, since a bare stream of samples may not say which channel is which, and an encoder has to know.
        self._stream.codec_context.layout = _LAYOUTS.get(source.codec_context.layout.nb_channels, "stereo")
        self._last = -1

    def take(self, packet: Native, seconds: float) -> list[Native]:
        if self._copied:
            if packet.dts is None:
                return []
            shift = round(seconds / packet.time_base) - (packet.pts if packet.pts is not None else packet.dts)
            packet.dts += shift
            if self._stamp is not None and packet.dts <= self._stamp:  # sounds of recordings that were joined overlap
                return []
            self._stamp = packet.dts
            if packet.pts is not None:
                packet.pts += shift
            packet.stream = self._stream
            return [packet]
        try:
            frames = packet.decode()
        except self._av.error.FFmpegError:
            return []
        return [coded for frame in frames for coded in self._encode(frame, seconds)]

    def _encode(self, frame: Native, seconds: float) -> list[Native]:
        context = self._stream.codec_context
        if self._resampler is None:
            self._resampler = self._av.AudioResampler(
                context.format, context.layout, context.sample_rate, context.frame_size or None
            )
        # Counted in samples: what comes is one stretch of sound, and its beginning says where it lies.
        if self._last < 0:
            self._last = round(seconds * frame.sample_rate)
        frame.pts, frame.time_base = self._last, Fraction(1, frame.sample_rate)
        self._last += frame.samples
        return [coded for part in self._resampler.resample(frame) for coded in self._stream.encode(part)]

    def finish(self) -> list[Native]:
        if self._copied or self._resampler is None:
            return []
        rest = [coded for part in self._resampler.resample(None) for coded in self._stream.encode(part)]
        return [*rest, *self._stream.encode(None)]

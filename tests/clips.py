"""Clips for tests, made by FFmpeg through PyAV.

make_clip(path, ...)   a video file of given frames; variable times, sound, rotation, odd sizes, any container
portrait_frames(n)     the portrait that ships, drifting over a plain ground
read_clip(path)        what a file holds: frames as RGB, their times, samples of sound
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from faces import background, shrunk_face

av = pytest.importorskip("av", reason="needs PyAV: the extra `video`")

Pixels = NDArray[np.uint8]


def portrait_frames(
    count: int, size: tuple[int, int] = (320, 240), side: int = 70, step: float = 1.5, start: float = 10.0
) -> Iterator[Pixels]:
    """The portrait's head, its face about `side` pixels wide, `step` pixels further to the right in each frame."""
    width, height = size
    head = shrunk_face(side)
    ground = background(width, height)
    for i in range(count):
        frame = ground.copy()
        paste(frame, head, start + i * step, (height - head.shape[0]) / 2)
        yield frame


def paste(frame: Pixels, picture: Pixels, x: float, y: float) -> None:
    """Lays a picture on a frame; what lies outside is cut off."""
    left, top = round(x), round(y)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + picture.shape[1], frame.shape[1]), min(top + picture.shape[0], frame.shape[0])
    if x1 > x0 and y1 > y0:
        frame[y0:y1, x0:x1] = picture[y0 - top : y1 - top, x0 - left : x1 - left]


def make_clip(
    path: Path,
    frames: Iterable[Pixels],
    *,
    rate: int = 25,
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    stay: float | None = None,
    sound: str | None = None,
    sound_seconds: float | None = None,
    rotation: int = 0,
    colours: int | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Writes a clip.

    Args:
        path: Its ending says the container.
        frames: RGB uint8, all of one size.
        rate: Frames per second.
        codec: Of the picture.
        times: Of each frame, in seconds; evenly by `rate` by default.
        stay: Seconds that the last frame stays; None: as each.
        sound: Codec of a tone of 440 Hz; None: no sound.
        sound_seconds: How long it is; None: as long as the picture.
        rotation: Degrees, counter-clockwise, by which a player has to turn the frames.
        colours: The matrix that the stream claims, as ITU-T H.273 numbers them; None: it tells none.
        options: Of the encoder.
        muxer: Of the container.
    """
    pictures = list(frames)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = width, height
        odd = width % 2 or height % 2
        stream.pix_fmt = "yuv444p" if odd and codec == "libx264" else "yuvj420p" if codec == "mjpeg" else "yuv420p"
        unit = Fraction(1, 12_800) if codec == "libx264" else Fraction(1, rate)
        stream.codec_context.time_base = unit
        if colours is not None:
            stream.codec_context.colorspace = colours
        stream.codec_context.flags |= int(av.codec.context.Flags.frame_duration)
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream(sound, rate=48_000) if sound else None
        if tone is not None:
            tone.codec_context.layout = "mono"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round((times[i] if times else i / rate) / unit)
            frame.time_base = unit
            frame.duration = round((stay if stay and i == len(pictures) - 1 else 1 / rate) / unit)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            seconds = sound_seconds or (times[-1] if times else len(pictures) / rate) + 1 / rate
            container.mux(_encode_tone(tone, seconds))
    return path


def _encode_tone(stream: object, seconds: float) -> list[object]:
    samples = np.sin(2 * np.pi * 440 * np.arange(round(seconds * 48_000)) / 48_000) * 0.3
    packets: list[object] = []
    context = stream.codec_context
    resampler = av.AudioResampler(context.format, "mono", 48_000, context.frame_size or 1024)
    block = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="fltp", layout="mono")
    block.sample_rate, block.pts, block.time_base = 48_000, 0, Fraction(1, 48_000)
    for frame in [*resampler.resample(block), *resampler.resample(None)]:
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


@dataclass
class Content:
    """What a file holds."""

    frames: list[Pixels] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    last: float = 0.0  # seconds that the last frame is shown
    samples: int = 0
    loudness: float = 0.0
    sound_codec: str | None = None
    rotation: int = 0


def read_clip(path: Path) -> Content:
    """Decodes all of a file."""
    content = Content()
    with av.open(str(path)) as container:
        streams = [*container.streams.video, *container.streams.audio]
        if container.streams.audio:
            content.sound_codec = container.streams.audio[0].codec_context.name
        levels = []
        for frame in container.decode(*streams):
            if isinstance(frame, av.VideoFrame):
                content.frames.append(frame.to_ndarray(format="rgb24"))
                content.times.append(float(frame.time))
                content.rotation = frame.rotation
                content.last = float((frame.duration or 0) * frame.time_base)
            else:
                content.samples += frame.samples
                levels.append(float(np.abs(frame.to_ndarray().astype(np.float64)).mean()))
        content.loudness = float(np.mean(levels)) if levels else 0.0
    return content

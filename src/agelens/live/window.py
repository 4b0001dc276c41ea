"""A window of the desktop, by Tk, which comes with Python: no OpenCV is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image as PillowImage

from agelens.errors import UsageError
from agelens.render import draw_on

if TYPE_CHECKING:
    from agelens.live.cameras import Camera
    from agelens.live.watching import Watcher


def show_window(camera: Camera, watcher: Watcher, is_stopped: Callable[[], bool]) -> None:
    """Shows the camera with what is found, until the window is closed or it `is_stopped`.

    Raises:
        UsageError: There is no desktop, or this Python has no Tk.
        OutputError: What is to be recorded can't be written.
        MissingCodecError: No codec is there for this kind of video.
    """
    try:
        import tkinter

        from PIL import ImageTk
    except ImportError as error:
        raise UsageError("this Python has no Tk for a window; leave --window out and open the page") from error
    try:
        window = tkinter.Tk()
    except tkinter.TclError as error:
        raise UsageError(f"there is no desktop here ({error}); leave --window out and open the page") from error
    window.title("agelens live")
    label = tkinter.Label(window, borderwidth=0)
    label.pack()
    closed = threading.Event()
    window.protocol("WM_DELETE_WINDOW", closed.set)
    number = 0
    # Not Tk's own loop, which prints an error and goes on.
    while not (closed.is_set() or is_stopped()):
        taken = camera.take(number, 0.05)
        if taken is not None:
            number, pixels = taken
            seen = watcher.look(pixels)
            drawn = pixels.copy()
            draw_on(drawn, seen.faces)
            photo = ImageTk.PhotoImage(PillowImage.fromarray(drawn))
            label.configure(image=photo)
            label.__dict__["kept"] = photo  # Tk itself keeps no reference
            window.title(f"agelens live: {seen.rate:.0f} frames/s")
        elif camera.trouble:
            window.title(f"agelens live: {camera.trouble}")
        window.update()
    window.destroy()

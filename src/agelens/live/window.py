"""A window of the desktop, by Tk, which comes with Python: no OpenCV is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image as PillowImage

from agelens.errors import UsageError
from agelens.render import draw_on

if TYPE_CHECKING:
    from agelens.live.cameras import Camera
    from agelens.live.watching import Watcher


def show_window(camera: Camera, watcher: Watcher) -> None:
    """Shows the camera with what is found, until the window is closed.

    Raises:
        UsageError: There is no desktop, or this Python has no Tk.
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
    state = {"number": 0}

    def step() -> None:
        taken = camera.take(state["number"], 0.05)
        if taken is not None:
            state["number"], pixels = taken
            seen = watcher.look(pixels)
            drawn = pixels.copy()
            draw_on(drawn, seen.faces)
            photo = ImageTk.PhotoImage(PillowImage.fromarray(drawn))
            label.configure(image=photo)
            label.__dict__["kept"] = photo  # Tk itself keeps no reference
            window.title(f"agelens live: {seen.rate:.0f} frames/s")
        elif camera.trouble:
            window.title(f"agelens live: {camera.trouble}")
        window.after(1, step)

    window.after(1, step)
    window.mainloop()

"""Video: frames in, faces that keep their identity out.

`agelens.video.reader` and `agelens.video.writer` need PyAV (the extra `video`); tracks and fusion need numpy alone.
"""

"""Live: a page with the browser's own camera, or with a camera of the machine; needs the extras `serve` and `video`.

Its own room, since the server that answers requests about pictures knows no people and keeps nothing between them.
"""

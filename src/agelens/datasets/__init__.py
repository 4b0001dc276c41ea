"""The second corridor's first room: data sets, public and your own -> a checked manifest, and one `.h5` on request."""

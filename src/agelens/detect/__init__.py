"""Pixels -> faces: boxes, scores and landmarks."""

from agelens.detect.search import FAR, Detector, FaceDetector, SearchOptions, central_face

__all__ = ["FAR", "Detector", "FaceDetector", "SearchOptions", "central_face"]

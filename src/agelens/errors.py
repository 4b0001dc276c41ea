"""Every error that agelens raises on purpose, in one tree.

AgelensError
 |- InputError               something named could not be read; others go on        exit 1
 |   |- NotFoundError            not_found
 |   |- FolderGivenError         is_a_folder
 |   |- UnreadableError          unreadable
 |   |- SymlinkLoopError         symlink_loop
 |   |- EmptyFileError           empty_file
 |   |- UnsupportedFormatError   unsupported_format
 |   |- MissingExtraError        missing_extra
 |   |- TruncatedImageError      truncated_image
 |   |- CorruptImageError        corrupt_image
 |   |- TooManyBytesError        too_many_bytes
 |   |- TooManyPixelsError       too_many_pixels
 |   |- ImageTooSmallError       image_too_small
 |   |- InvalidArrayError        invalid_array
 |   |- UrlNotAllowedError       url_not_allowed
 |   |- UrlFetchError            url_failed
 |   |- NoFramesError            no_frames
 |   |- MissingCodecError        missing_codec
 |   |- TruncatedVideoError      truncated_video
 |   |- CorruptVideoError        corrupt_video
 |   |- CameraError              no_camera
 |   `- CrashedError             crashed
 |- RecordError              a record of a result is not what it must be           exit 1   invalid_record
 |   `- UnknownSchemaError       unknown_schema
 |- OutputError              a result could not be written                         exit 1
 |   |- OutputUnwritableError    output_unwritable
 |   `- DiskFullError            disk_full
 |- UsageError               wrong usage, or nothing to do                         exit 2
 |   |- NothingToReadError       nothing_to_read
 |   |- MissingPackageError      missing_package
 |   |- DeviceError              device_unavailable
 |   |- OutputNotEmptyError      output_not_empty
 |   |- OutputInUseError         output_in_use
 |   `- PlanChangedError         plan_changed
 |- DatasetError             a data set cannot be prepared or used                exit 1
 |   |- WrongLayoutError         wrong_layout
 |   |- UnreadableLabelsError    unreadable_labels
 |   |- MissingPicturesError     missing_pictures
 |   |- EmptyDatasetError        empty_dataset
 |   |- DamagedDatasetError      damaged_dataset
 |   `- LeakError                leak
 |- TrainingError            a training cannot start or go on                       exit 1   training_failed
 |- ClusterError             a cluster of machines cannot be used                   exit 1   cluster_failed
 |- ServerError              a server cannot answer a request                       exit 1
 |   |- BadRequestError          bad_request
 |   |- UnauthorizedError        unauthorized
 |   |- CrossSiteError           cross_site
 |   |- UnknownPathError         unknown_path
 |   |- WrongMethodError         wrong_method
 |   |- SlowUploadError          slow_upload
 |   |- BodyTooLargeError        body_too_large
 |   |- TooManyFilesError        too_many_files
 |   |- HeadTooLargeError        head_too_large
 |   |- WrongHostError           wrong_host
 |   |- OverloadedError          overloaded
 |   |- TimeLimitError           time_limit
 |   `- StoppingError            stopping
 `- ModelError               a model file is unknown, damaged or unfit             exit 3
     |- UnknownModelError        unknown_model
     |- DamagedModelError        damaged_model
     `- UnfitModelError          unfit_model

The codes are stable: programs may rely on them. A message says what is wrong and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar

from agelens.types import Failure


class AgelensError(Exception):
    """The root: has a stable `code`, the `exit_status` of a command and the `http_status` of a server."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def to_failure(self) -> Failure:
        """The same as a value that a report carries."""
        return Failure(self.code, self.message)


class InputError(AgelensError):
    """A picture, or another file that was named, could not be read."""

    code = "input_error"
    http_status = 422


class NotFoundError(InputError):
    """There is no such file."""

    code = "not_found"
    http_status = 404


class FolderGivenError(InputError):
    """A folder stands where a picture was expected."""

    code = "is_a_folder"


class UnreadableError(InputError):
    """The file exists but may not, or cannot, be read."""

    code = "unreadable"


class SymlinkLoopError(InputError):
    """A symbolic link leads back to itself."""

    code = "symlink_loop"


class EmptyFileError(InputError):
    """The file has no bytes."""

    code = "empty_file"
    http_status = 400


class UnsupportedFormatError(InputError):
    """The bytes are of no picture format that can be read here."""

    code = "unsupported_format"
    http_status = 415


class MissingExtraError(InputError):
    """The format can be read once an optional package is installed."""

    code = "missing_extra"
    http_status = 415


class TruncatedImageError(InputError):
    """The file ends before the picture does."""

    code = "truncated_image"


class CorruptImageError(InputError):
    """The format is known but its content is broken."""

    code = "corrupt_image"


class TooManyBytesError(InputError):
    """The file is larger than the limit."""

    code = "too_many_bytes"
    http_status = 413


class TooManyPixelsError(InputError):
    """The picture has more pixels than the limit."""

    code = "too_many_pixels"
    http_status = 413


class ImageTooSmallError(InputError):
    """The picture is too small to hold a face."""

    code = "image_too_small"


class InvalidArrayError(InputError):
    """An array is not RGB uint8 of shape (H, W, 3)."""

    code = "invalid_array"


class UrlNotAllowedError(InputError):
    """A URL was given without leave to fetch it."""

    code = "url_not_allowed"
    http_status = 403


class UrlFetchError(InputError):
    """A URL could not be fetched."""

    code = "url_failed"
    http_status = 502


class NoFramesError(InputError):
    """A video holds no frame, or none where it was asked for."""

    code = "no_frames"


class MissingCodecError(InputError):
    """No codec is there that decodes, or encodes, a video."""

    code = "missing_codec"
    http_status = 415


class TruncatedVideoError(InputError):
    """A video ends before it says that it does."""

    code = "truncated_video"


class CorruptVideoError(InputError):
    """The data of a video are damaged."""

    code = "corrupt_video"


class CameraError(InputError):
    """A camera or a stream of pictures can't be opened."""

    code = "no_camera"


class CrashedError(InputError):
    """The process that read the picture ended, more than once."""

    code = "crashed"


class RecordError(AgelensError):
    """A record of a result is not what it must be, or a result can't become one."""

    code = "invalid_record"


class UnknownSchemaError(RecordError):
    """A record was written in a schema that this version does not know."""

    code = "unknown_schema"


class OutputError(AgelensError):
    """A result could not be written."""

    code = "output_error"


class OutputUnwritableError(OutputError):
    """The place for the output does not exist or may not be written to."""

    code = "output_unwritable"


class DiskFullError(OutputError):
    """No space is left on the disk."""

    code = "disk_full"
    http_status = 507


class Notice(UserWarning):
    """What users should know, and may pass over: the work goes on."""


class TermsWarning(Notice):
    """A model file was opened that may not be used for everything."""


class DeviceWarning(Notice):
    """A device that onnxruntime offers can't be used here; the CPU does the work."""


class UsageError(AgelensError):
    """Wrong usage."""

    code = "usage"
    exit_status = 2
    http_status = 422


class NothingToReadError(UsageError):
    """No input was given, or what was named holds none."""

    code = "nothing_to_read"


class DatasetError(AgelensError):
    """A data set cannot be prepared or used."""

    code = "dataset_error"
    http_status = 422


class WrongLayoutError(DatasetError):
    """The folder or archive is not laid out as sets of its kind are."""

    code = "wrong_layout"


class UnreadableLabelsError(DatasetError):
    """A label file lacks a column, or holds a value that has no meaning."""

    code = "unreadable_labels"


class MissingPicturesError(DatasetError):
    """Too many of the pictures that the labels name are not there."""

    code = "missing_pictures"


class EmptyDatasetError(DatasetError):
    """Nothing usable is left."""

    code = "empty_dataset"


class DamagedDatasetError(DatasetError):
    """A manifest, a pack or an archive is not what was once written."""

    code = "damaged_dataset"


class LeakError(DatasetError):
    """The same person or the same photograph stands on both sides of a split."""

    code = "leak"


class MissingPackageError(UsageError):
    """What was asked for works once an optional package is installed."""

    code = "missing_package"
    http_status = 501


class DeviceError(UsageError):
    """The device that was asked for cannot be used here."""

    code = "device_unavailable"


class OutputNotEmptyError(UsageError):
    """The folder of the output holds something already."""

    code = "output_not_empty"
    http_status = 409


class OutputInUseError(UsageError):
    """Another run writes to the same output."""

    code = "output_in_use"
    http_status = 409


class PlanChangedError(UsageError):
    """A run is asked to go on with other settings, another input or another model than it began with."""

    code = "plan_changed"
    http_status = 409


class ClusterError(AgelensError):
    """A cluster of machines, or the engine that runs it, cannot be used."""

    code = "cluster_failed"


class TrainingError(AgelensError):
    """A training cannot start or go on."""

    code = "training_failed"


class ServerError(AgelensError):
    """A server cannot answer a request."""

    code = "server_error"


class BadRequestError(ServerError):
    """The request is not what HTTP or its content type promises."""

    code = "bad_request"
    http_status = 400


class UnauthorizedError(ServerError):
    """The server asks for a key, and the request brings none or another."""

    code = "unauthorized"
    http_status = 401


class CrossSiteError(ServerError):
    """The page of another site made a browser send the request."""

    code = "cross_site"
    http_status = 403


class UnknownPathError(ServerError):
    """The server has nothing at that path."""

    code = "unknown_path"
    http_status = 404


class WrongMethodError(ServerError):
    """There is something at that path, for another method."""

    code = "wrong_method"
    http_status = 405


class SlowUploadError(ServerError):
    """The body of the request did not arrive in time."""

    code = "slow_upload"
    http_status = 408


class BodyTooLargeError(ServerError):
    """The body of the request is larger than the limit."""

    code = "body_too_large"
    http_status = 413


class TooManyFilesError(ServerError):
    """The request holds more pictures than the limit."""

    code = "too_many_files"
    http_status = 413


class HeadTooLargeError(ServerError):
    """The head of a request, its address and headers, has more bytes than the limit."""

    code = "head_too_large"
    http_status = 431


class WrongHostError(ServerError):
    """The request is meant for another host."""

    code = "wrong_host"
    http_status = 421


class OverloadedError(ServerError):
    """The server has as much to do as it takes on; try again later."""

    code = "overloaded"
    http_status = 429


class TimeLimitError(ServerError):
    """The answer took longer than the limit."""

    code = "time_limit"
    http_status = 503


class StoppingError(ServerError):
    """The server is stopping, or not ready yet."""

    code = "stopping"
    http_status = 503


class ModelError(AgelensError):
    """A model file is unknown, damaged or unfit."""

    code = "model_error"
    exit_status = 3


class UnknownModelError(ModelError):
    """No model of that name, no file of that path."""

    code = "unknown_model"


class DamagedModelError(ModelError):
    """The bytes of a model file are not what they must be."""

    code = "damaged_model"


class UnfitModelError(ModelError):
    """The file is a model, but not one that this version can run."""

    code = "unfit_model"

"""The field's protocols as data: one TOML file each, read by `agelens.evaluation.protocol`."""

"""Devices, files, signals, errors and versions: what every room needs."""

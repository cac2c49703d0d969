"""Encoded pictures in files and columns: PNG, JPEG, WebP, BMP and GIF, decoded on request."""

"""Pictures as they are kept in files and columns: PNG, JPEG, WebP, BMP and GIF, decoded when they are asked for."""

"""From any source to boxes on a picture. Nothing here imports torch."""

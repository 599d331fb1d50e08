"""What label assignment does with a picture or a dataset: ``leyolo explain``. Needs torch."""

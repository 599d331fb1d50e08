"""Annotated pictures: reading, checking, augmenting, batching. Torch is imported only by what yields batches."""

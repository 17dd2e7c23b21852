"""Tensor maths that wings share."""

"""Rewrite and sign, per kind of provider."""

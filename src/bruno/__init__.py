"""Exchangeable sequence models."""

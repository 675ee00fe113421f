"""Galleries: codes with ids, labels and metadata, kept in a folder, searched and changed."""

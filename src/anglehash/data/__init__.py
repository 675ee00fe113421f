"""Images and labels in, retrieval splits out."""

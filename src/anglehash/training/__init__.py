"""From labelled images, or their features, to a model."""

"""From images to features to logits. torch lives here, and only here."""

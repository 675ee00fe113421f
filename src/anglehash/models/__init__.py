"""Networks: backbones, heads, and the model that a user keeps. torch from here up."""

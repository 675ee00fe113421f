"""HTML pages that need nothing else, neither network nor script, and what they are made of."""

"""One file a command; its name is the file's, its object is ``command``."""

"""Where images and labels come from: folders, tables, lists, arrays."""

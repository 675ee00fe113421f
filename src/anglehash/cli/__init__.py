"""The doors: command line, reports and (later) the service."""

"""Commands. The only room that imports the daemon."""

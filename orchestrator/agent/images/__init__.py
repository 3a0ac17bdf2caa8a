"""Images on this node: pulled as policies say, with the credentials of pods and node."""

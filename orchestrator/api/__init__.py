"""What an object is: resource table, schema, codecs, metadata, quantities, selectors, patches, printing.

Pure: no I/O, no clock of its own, no asyncio. Objects are plain JSON dictionaries; a committed object is
frozen by convention, and a change builds a new one along the changed path.
"""

"""Pure filters and scores over columns: no asyncio, no client. Open to controllers and agent."""

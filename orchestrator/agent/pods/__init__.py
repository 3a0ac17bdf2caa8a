"""One worker per pod: what it looks at, what it decides, what it does and what it tells the API."""

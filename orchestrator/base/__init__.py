"""Clock, supervised tasks, back-off, logging, errors. The floor of the house: no domain words here."""

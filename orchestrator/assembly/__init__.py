"""Parts of the composition root: what `daemon` needs to put the house together. Nothing else imports them."""

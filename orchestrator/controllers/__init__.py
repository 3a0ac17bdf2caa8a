"""One flat file per controller; each reads like its specification: rules, watches and writes, reconcile, plan."""

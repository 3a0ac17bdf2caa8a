"""Server-side apply: who owns which field, and the merge of what appliers want.

`fieldset` is the algebra of field sets, `shapes` what a schema says about merging, `managed` the entries of
`metadata.managedFields` and how each write changes them, `merge` the verb itself. All are pure and never mutate
what they are given. Called by the registry inside its read-modify-write. Behaviour as that of the libraries that
Kubernetes uses (structured-merge-diff and `apimachinery`'s `managedfields`).
"""

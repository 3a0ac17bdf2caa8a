"""Work queue of keys: deduplicated, delayed requeue, back-off per key; a key is handed to one worker at a time.

queue.add(key); queue.add_after(key, delay_s); queue.retry(key) (back-off); queue.forget(key)
key = await queue.take(); ...; queue.done(key)
"""

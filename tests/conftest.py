"""For all tests: hypothesis without deadlines (the machines are noisy) and, by default, without chance.

`HYPOTHESIS_PROFILE=random` draws anew on each run, for long campaigns.
"""

import os

from hypothesis import settings

settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

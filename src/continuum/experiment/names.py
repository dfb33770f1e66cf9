"""What deployments and machines may be called."""

import re

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")

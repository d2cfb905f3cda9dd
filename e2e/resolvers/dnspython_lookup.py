# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
"""What dnspython says to the name in the argument: milliseconds, then its addresses or "-" and the error."""

import sys
import time

import dns.resolver

before = time.monotonic()
try:
    answer = dns.resolver.resolve(sys.argv[1], "A", search=True)
    text = " ".join(record.to_text() for record in answer)
except Exception as error:  # what a client library throws is the result
    text = f"- {type(error).__name__}"
print(f"{(time.monotonic() - before) * 1000:.0f} {text}")

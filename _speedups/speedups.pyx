# cython: language_level=3, binding=True, embedsignature=False, autotestdict=False, auto_pickle=False
# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The compiled wire: the twin of the pure modules in `aibridge.wire`, with the same names and the same answers.

The pure modules are the definition. A change to one is a change to both. This module imports the ground floor only:
were it to import `aibridge.wire`, the switch there would find it half made, and quietly choose the pure one.
"""

include "c.pxi"
include "eventstream.pyx"
include "template.pyx"
include "sse.pyx"
include "transcode.pyx"
include "jsonscan.pyx"
include "jsontail.pyx"
include "chunked.pyx"

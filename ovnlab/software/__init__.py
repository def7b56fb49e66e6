"""OVS and OVN as artefacts: trees made once, kept by their content, that nodes see or are given.

`packages` are the distribution's, downloaded and unpacked, never installed, or what the machine has; they are laid over
/usr. What is built from source stands beside them below /opt/ovnlab: `sources` knows where it comes from, `toolchain`
what it is built with, `artefacts` where it is kept, and `building` makes it.
"""

"""Engine `bcc`: the same C files as `core`, compiled on the node.

bcc is a compiler here and nothing else. It runs in a child process without privileges (`child`), whose
instructions we check, keep in a cache and load ourselves; this process never imports bcc and never maps LLVM.
"""

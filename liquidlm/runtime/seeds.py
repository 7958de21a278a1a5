"""Seeds of random numbers: torch's generator on the CPU uses the lowest 32 bits only."""

import hashlib

BITS = 32


def generator_seed(seed: int, number: int = 0) -> int:
    """A seed for `torch.Generator.manual_seed`. Seeds of 32 bits are themselves, others are hashed to them.

    >>> generator_seed(7), generator_seed(7 + 2**32) == 7, generator_seed(7, 1) == generator_seed(8)
    (7, False, False)

    Args:
        seed: any whole number.
        number: of the stream of random numbers; those of one seed are unlike those of the next seed.
    """
    if not number and 0 <= seed < 1 << BITS:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[: BITS // 8])

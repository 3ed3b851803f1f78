"""Contenders take turns, round after round, so that a busy machine disturbs all of them alike."""

BLOCK = 0.002       # seconds of calls in a row that make one time
LONG = 0.25         # a block of so many seconds hardly notices cold caches


def block_of(contender):
    """How many calls make a block, and their seconds."""
    n = 1
    while True:
        seconds = contender.timed(n)
        if seconds >= BLOCK or n >= 10_000:
            return n, seconds
        n *= 2


def turn(contender, n, share):
    """Seconds of a call, one from each block in `share` seconds; the first block, with cold caches, only counts when it is long."""
    first = contender.timed(n)
    times, spent = [first / n] if first > LONG else [], 0
    while not times or spent + first < share:
        seconds = contender.timed(n)
        times.append(seconds / n)
        spent += seconds
    return times


def measure(contenders, seconds, rounds=0):
    """name -> seconds of a call, from all rounds; about `seconds` in all, but at least two rounds.
    contenders: name -> Contender, each called before; rounds: 0: as many as fit."""
    blocks = {name: block_of(c) for name, c in contenders.items()}
    once = sum(2 * seconds for _, seconds in blocks.values())
    rounds = rounds or max(2, min(15, int(seconds / max(once, 0.03 * len(contenders)))))
    share = min(0.5, seconds / rounds / len(contenders))
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, c in contenders.items():
            times[name] += turn(c, blocks[name][0], share)
    return times

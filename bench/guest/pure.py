# SPDX-License-Identifier: Apache-2.0
"""pure - a benchmark in pure Python: bodies that attract each other, permutations, words in a
dictionary, queens by recursion, big integers. Prints what it has computed."""
import itertools


def bodies(steps):
    """Three bodies by Euler's method: floating point on attributes of lists."""
    state = [[0.0, 0.0, 0.0, 0.0, 40.0], [5.0, 0.0, 0.0, 2.7, 0.04], [9.6, 0.3, -0.1, 2.0, 0.01]]
    for _ in range(steps):
        for a, b in itertools.combinations(state, 2):
            dx, dy = a[0] - b[0], a[1] - b[1]
            f = 0.001 / (dx * dx + dy * dy) ** 1.5
            a[2] -= dx * b[4] * f
            a[3] -= dy * b[4] * f
            b[2] += dx * a[4] * f
            b[3] += dy * a[4] * f
        for p in state:
            p[0] += 0.001 * p[2]
            p[1] += 0.001 * p[3]
    return [f"{v:.9e}" for p in state for v in p]


def flips(n):
    """Fannkuch: the most prefix reversals that any permutation of n needs."""
    most = 0
    for perm in itertools.permutations(range(n)):
        p, count = list(perm), 0
        while p[0]:
            k = p[0] + 1
            p[:k] = p[k - 1::-1]
            count += 1
        most = max(most, count)
    return most


def words(n):
    """Text made, split and counted."""
    seed, text = 1, []
    for _ in range(n):
        seed = seed * 1103515245 + 12345 & 0x7fffffff
        text.append("word%d" % (seed >> 16 & 1023))
    count = {}
    for w in " ".join(text).split():
        count[w] = count.get(w, 0) + 1
    return sorted(count.items(), key=lambda item: (-item[1], item[0]))[:5]


class Board:
    def __init__(self, n):
        self.n, self.columns, self.up, self.down, self.found = n, set(), set(), set(), 0

    def place(self, row=0):
        if row == self.n:
            self.found += 1
            return
        for c in range(self.n):
            if c in self.columns or row + c in self.up or row - c in self.down:
                continue
            self.columns.add(c)
            self.up.add(row + c)
            self.down.add(row - c)
            self.place(row + 1)
            self.columns.remove(c)
            self.up.remove(row + c)
            self.down.remove(row - c)


board = Board(8)
board.place()
print(bodies(80000), flips(9), words(200000), board.found, pow(3, 123456) % 10 ** 30, sep="\n")

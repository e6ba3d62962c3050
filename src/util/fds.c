/* SPDX-License-Identifier: Apache-2.0 */
#include "util/fds.h"

#include <unistd.h>

void fds_close_others(const int *keep, unsigned n)
{
	unsigned from = STDERR_FILENO + 1, next;

	do {
		next = ~0u;
		for (unsigned i = 0; i < n; i++) {
			if (keep[i] >= (int)from && (unsigned)keep[i] < next)
				next = (unsigned)keep[i];
		}
		if (next > from)
			(void)close_range(from, next == ~0u ? next : next - 1, 0);
		from = next + 1;
	} while (next != ~0u);
}

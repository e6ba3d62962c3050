/* SPDX-License-Identifier: Apache-2.0 */
#include "in_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "test.h"

static char dir[64];

static void remove_dir(void)
{
	char command[80];

	snprintf(command, sizeof(command), "rm -rf %.60s", dir);
	if (system(command))
		fprintf(stderr, "cannot remove %s\n", dir);
}

const char *in_dir(const char *name)
{
	static char path[4][160];
	static unsigned i;
	const char *tmp = getenv("TMPDIR");

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%.40s/viv-blk-XXXXXX", tmp ? tmp : "/tmp");
		CHECK(mkdtemp(dir));
		atexit(remove_dir);
	}
	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%.60s/%.90s", dir, name);
	return path[i];
}

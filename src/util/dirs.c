/* SPDX-License-Identifier: Apache-2.0 */
#include "util/dirs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/checked.h"

char *dirs_data(void)
{
	const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char *dir = NULL;
	int n;

	if (!geteuid())
		return strdup("/var/lib/viv");
	if (base && base[0] == '/')
		n = asprintf(&dir, "%s/viv", base);
	else
		n = asprintf(&dir, "%s/.local/share/viv", home && home[0] == '/' ? home : "/nonexistent");
	return n < 0 ? NULL : dir;
}

char *dirs_run(void)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	char *dir = NULL;
	int n;

	if (!geteuid())
		return strdup("/run/viv");
	if (base && base[0] == '/')
		n = asprintf(&dir, "%s/viv", base);
	else
		n = asprintf(&dir, "/tmp/viv-%d", (int)geteuid());
	return n < 0 ? NULL : dir;
}

/* NAME in the first of the N places, from this program's own on, that has it and allows MODE. */
static char *find_beside(const char *const *places, size_t n, const char *name, int mode)
{
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len <= 0)
		return NULL;
	self[len] = 0;
	*(strrchr(self, '/') + 1) = 0;
	for (size_t k = 0; k < n; k++) {
		snprintf(path, sizeof(path), "%s%s%s", self, places[k], name);
		if (!access(path, mode))
			return strdup(path);
	}
	return NULL;
}

char *dirs_program(const char *name)
{
	static const char *const beside[] = { "", "../libexec/vivarium/", "../scripts/" };

	return find_beside(beside, ARRAY_LEN(beside), name, X_OK);
}

char *dirs_shared(const char *name)
{
	static const char *const beside[] = { "../share/vivarium/", "../" };

	return find_beside(beside, ARRAY_LEN(beside), name, R_OK | X_OK);
}

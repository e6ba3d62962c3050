/* SPDX-License-Identifier: Apache-2.0 */
#include "util/cpu_list.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include "util/err.h"

/* The number at *P, which moves behind it. False: there is none, or no processor has it. */
static bool take_number(const char **p, unsigned long *out)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	*out = strtoul(*p, &end, 10);
	*p = end;
	return *out < CPU_SETSIZE;
}

int cpu_list_parse(cpu_set_t *out, const char *text, struct err *err)
{
	const char *p = text;

	CPU_ZERO(out);
	for (;;) {
		unsigned long first, last;

		if (!take_number(&p, &first))
			break;
		last = first;
		if (*p == '-' && (p++, !take_number(&p, &last)))
			break;
		if (last < first)
			break;
		for (unsigned long k = first; k <= last; k++)
			CPU_SET((int)k, out);
		if (!*p)
			return 0;
		if (*p++ != ',')
			break;
	}
	return err_set(err, -EINVAL, "'%.40s' is no list of processors, as '0-3,6' with numbers below %d", text, CPU_SETSIZE);
}

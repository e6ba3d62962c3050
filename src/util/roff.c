/* SPDX-License-Identifier: Apache-2.0 */
#include "util/roff.h"

#include <ctype.h>

void roff_put(FILE *to, const char *text, bool is_code)
{
	bool is_option = false;

	for (const char *p = text; *p; p++) {
		if (p == text || isspace((unsigned char)p[-1]) || p[-1] == '\'' || p[-1] == '[')
			is_option = *p == '-';
		if (*p == '\\')
			fputs("\\e", to);
		else if (*p == '-' && (is_code || is_option))
			fputs("\\-", to);
		else if (p == text && (*p == '.' || *p == '\''))
			fprintf(to, "\\&%c", *p);
		else
			fputc(*p, to);
	}
}

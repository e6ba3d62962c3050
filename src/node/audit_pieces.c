/* SPDX-License-Identifier: Apache-2.0 */
#include "node/audit_pieces.h"

#include <string.h>

static const uint64_t NS = 1000000000;

bool audit_pieces_begin(struct audit_pieces *p, const void *what, size_t len, bool begins, uint64_t now_ns)
{
	struct audit_deed *d = &p->deed[0];
	char hash[SECRET_HASH_LEN + 1];

	secret_hash(hash, what, len);
	for (unsigned i = 0; i < AUDIT_PIECES_DEEDS; i++) {
		if (!strcmp(p->deed[i].what, hash)) {
			d = &p->deed[i];
			break;
		}
		if (p->deed[i].seen_ns < d->seen_ns)
			d = &p->deed[i];
	}
	bool goes_on = !begins && !strcmp(d->what, hash) && now_ns - d->seen_ns < AUDIT_PIECES_PAUSE_S * NS &&
		       now_ns - d->begun_ns < AUDIT_PIECES_SPAN_S * NS;

	memcpy(d->what, hash, sizeof(hash));
	d->seen_ns = now_ns;
	if (!goes_on)
		d->begun_ns = now_ns;
	return !goes_on;
}

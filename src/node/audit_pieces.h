/* SPDX-License-Identifier: Apache-2.0 */
/* audit_pieces.h - what is done in many pieces is one deed, and one record of the audit log: which piece begins one. Pure, one thread. */
#ifndef NODE_AUDIT_PIECES_H
#define NODE_AUDIT_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "node/secret.h"

enum {
	AUDIT_PIECES_DEEDS = 64,        /* that go on at once; of more the oldest begin anew */
	AUDIT_PIECES_PAUSE_S = 60,      /* between two pieces of one */
	AUDIT_PIECES_SPAN_S = 600,      /* then another record says that it goes on */
};

struct audit_pieces {
	struct audit_deed {
		char what[SECRET_HASH_LEN + 1];         /* "": free */
		uint64_t begun_ns, seen_ns;
	} deed[AUDIT_PIECES_DEEDS];
};

/* A piece of the deed that WHAT (LEN bytes: who does it, and to what) names is done at NOW_NS. True: it is to be recorded, as it BEGINS one, or none
 * is known that it would go on with. */
bool audit_pieces_begin(struct audit_pieces *p, const void *what, size_t len, bool begins, uint64_t now_ns);

#endif

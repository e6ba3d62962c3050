/* SPDX-License-Identifier: Apache-2.0 */
/* Which of many pieces gets the record. */
#include <stdio.h>
#include <string.h>
#include "node/audit_pieces.h"
#include "test.h"

static const uint64_t S = 1000000000;

TEST(the_pieces_of_one_deed_have_one_record)
{
	struct audit_pieces p = { 0 };

	CHECK(audit_pieces_begin(&p, "a", 1, true, 5 * S));
	CHECK(!audit_pieces_begin(&p, "a", 1, false, 6 * S));
	CHECK(!audit_pieces_begin(&p, "a", 1, false, 65 * S));
	/* Somebody else, or something else. */
	CHECK(audit_pieces_begin(&p, "b", 1, false, 66 * S));
	CHECK(!audit_pieces_begin(&p, "b", 1, false, 67 * S));
	/* The same from the beginning is another one. */
	CHECK(audit_pieces_begin(&p, "a", 1, true, 68 * S));
	CHECK(!audit_pieces_begin(&p, "a", 1, false, 69 * S));
}

TEST(who_pauses_or_goes_on_for_long_is_recorded_again)
{
	struct audit_pieces p = { 0 };
	unsigned records = 0;

	CHECK(audit_pieces_begin(&p, "a", 1, true, 5 * S));
	CHECK(audit_pieces_begin(&p, "a", 1, false, (5 + AUDIT_PIECES_PAUSE_S) * S));
	for (unsigned s = 0; s < 3 * AUDIT_PIECES_SPAN_S; s++)
		records += audit_pieces_begin(&p, "a", 1, false, (100 + s) * S);
	CHECK_EQ(records, 3);
}

TEST(of_too_many_at_once_the_oldest_are_recorded_again)
{
	struct audit_pieces p = { 0 };
	char what[8] = "";

	for (unsigned i = 0; i <= AUDIT_PIECES_DEEDS; i++) {
		snprintf(what, sizeof(what), "%u", i);
		CHECK(audit_pieces_begin(&p, what, sizeof(what), true, (10 + i) * S / 100));
		memset(what, 0, sizeof(what));
	}
	snprintf(what, sizeof(what), "%u", AUDIT_PIECES_DEEDS);
	CHECK(!audit_pieces_begin(&p, what, sizeof(what), false, S));
	memset(what, 0, sizeof(what));
	snprintf(what, sizeof(what), "0");
	CHECK(audit_pieces_begin(&p, what, sizeof(what), false, S));
}

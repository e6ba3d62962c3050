/* SPDX-License-Identifier: Apache-2.0 */
/* The rig's tests run on engine `bt`. */
#include "cpu/rig_on_bt.h"

#include <string.h>
#include "cpu/bt/bt.h"
#include "cpu/bt/bt_priv.h"

const struct rig_engine rig_engine = { &cpu_bt, bt_step, false };

unsigned rig_window_frags(const struct rig *r)
{
	const struct bt_cache *k = bt_of(r->c)->cache;
	unsigned n = 0;

	for (unsigned i = 0; i < k->n_pages; i++) {
		const struct bt_page *page = &k->pages[i];

		for (const struct bt_frag *f = bt_frag_of(k, page->frags); page->policy == BT_POLICY_WINDOW && f; f = bt_frag_of(k, f->next_page))
			n++;
	}
	return n;
}

void rig_forget_places(struct rig *r)
{
	struct bt_cache *k = bt_of(r->c)->cache;

	for (unsigned i = 0; i < k->n_pages; i++) {
		struct bt_page *page = &k->pages[i];

		memset(page->less, 0, sizeof(page->less));
		memset(page->starts, 0, sizeof(page->starts));
		memset(page->heads, 0, sizeof(page->heads));
	}
}

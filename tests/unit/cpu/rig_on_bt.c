/* SPDX-License-Identifier: Apache-2.0 */
/* The rig's tests run on engine `bt`. */
#include "cpu/rig_on_bt.h"

#include <string.h>
#include "cpu/bt/bt.h"
#include "cpu/bt/bt_priv.h"

const struct rig_engine rig_engine = { &cpu_bt, bt_step, false };

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

/* SPDX-License-Identifier: Apache-2.0 */
/* What is told about disks. */
#include <stdio.h>
#include "blk/front.h"
#include "vm/control_disk.h"

json_t *control_disk_limits(const struct blk *front)
{
	json_t *o = json_object();
	struct blk_limits l;
	char key[32];

	blk_front_get_limits(front, &l);
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		const char *name = blk_limit_name((enum blk_limit_kind)k);

		if (l.v[k].rate)
			json_object_set_new(o, name, json_integer((json_int_t)l.v[k].rate));
		if (l.v[k].burst) {
			snprintf(key, sizeof(key), "%s-burst", name);
			json_object_set_new(o, key, json_integer((json_int_t)l.v[k].burst));
			snprintf(key, sizeof(key), "%s-burst-seconds", name);
			json_object_set_new(o, key, json_integer((json_int_t)(l.v[k].burst_s ? l.v[k].burst_s : 1)));
		}
	}
	return o;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/disk_place.h"

#include <stdio.h>
#include "node/pool.h"

int disk_place_find(struct node *n, const char *pool, const char *uid, const char *format, struct disk_place *out, struct err *err)
{
	struct pool_ref ref;
	int r = pool_find(n, pool, &ref, err);

	if (r < 0)
		return r;
	snprintf(out->pool, sizeof(out->pool), "%s", ref.path);
	snprintf(out->pool_uid, sizeof(out->pool_uid), "%s", ref.uid);
	snprintf(out->uid, sizeof(out->uid), "%s", uid);
	out->driver = ref.driver;
	disk_files_path(ref.path, ref.driver, uid, format, out->path, sizeof(out->path));
	return 0;
}

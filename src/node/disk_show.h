/* SPDX-License-Identifier: Apache-2.0 */
/* disk_show.h - what there is on the disk of a volume or an image: its format, sizes, what is below it, snapshots in it, who has it. A
 * worker looks, as a file system may hang; nobody's lock is minded. Loop thread. */
#ifndef NODE_DISK_SHOW_H
#define NODE_DISK_SHOW_H

#include "api/route.h"

extern const struct schema disk_show_schema;

void volume_disk(struct api_call *c);           /* GET /v1/volumes/{name}/disk */
void image_disk(struct api_call *c);            /* GET /v1/images/{name}/disk */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* resource_rename.h - other names for volumes, images, networks and profiles, which instances and snapshots speak of: those documents change with
 * them, in one commit. Loop thread. */
#ifndef NODE_RESOURCE_RENAME_H
#define NODE_RESOURCE_RENAME_H

struct api_call;

void volume_rename(struct api_call *c);         /* POST /v1/volumes/{name}/rename */
void image_rename(struct api_call *c);          /* POST /v1/images/{name}/rename */
void network_rename(struct api_call *c);        /* POST /v1/networks/{name}/rename */
void profile_rename(struct api_call *c);        /* POST /v1/profiles/{name}/rename */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* catalogues.h - the catalogues of images that this node knows (catalogue.h): descriptions in a folder of the administrator's, and what `viv disk catalogue`,
 * a process of its own, has last found at their publishers, in DATA/catalogues. Loop thread. */
#ifndef NODE_CATALOGUES_H
#define NODE_CATALOGUES_H

#include <stddef.h>

struct api_call;
struct err;
struct node;
struct node_config;
struct task_op;

#define CATALOGUES_CACHE "catalogues"           /* in the data directory */
#define CATALOGUES_ORIGIN "origin"              /* in an image's: what was chosen of a catalogue */

enum {
	CATALOGUES_MAX = 64,
	CATALOGUES_FRESH_S = 3600,              /* what was looked at so long ago is taken as it is */
};

int catalogues_config(struct node *n, const struct node_config *c, struct err *err);
/* The description of the catalogue that has the system of REFERENCE, to PATH. -ENOENT: none has, and the sentence has names that are near. */
int catalogues_find(struct node *n, const char *reference, char *path, size_t cap, struct err *err);
/* The description of the catalogue NAME. -ENOENT. */
int catalogues_path(const struct node *n, const char *name, char *path, size_t cap, struct err *err);
/* May an image be made of REFERENCE? -EINVAL: there is none, as far as is known; -ENOSPC: there is no room for it. */
int catalogues_check(struct node *n, const char *reference, struct err *err);

void catalogues_list(struct api_call *c);       /* GET /v1/catalogues */
void catalogues_show(struct api_call *c);       /* GET /v1/catalogues/{name} */
void catalogues_refresh(struct api_call *c);    /* POST /v1/catalogues/{name}/refresh */

extern const struct task_op catalogue_refresh_op;

#endif

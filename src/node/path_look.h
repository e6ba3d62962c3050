/* SPDX-License-Identifier: Apache-2.0 */
/* path_look.h - paths of the host that a request names: a file system below one may hang, so threads look that do nothing else, and who asks
 * hears within seconds in any case. Loop thread. */
#ifndef NODE_PATH_LOOK_H
#define NODE_PATH_LOOK_H

struct err;
struct node;

/* Is PATH what it has to be? On another thread. */
typedef int (*path_look_fn)(const char *path, struct err *err);

enum { PATH_LOOK_MS = 5000 };

/* DONE(ARG, what LOOK(PATH) returned, its sentence) once: soon, or with -ETIMEDOUT after PATH_LOOK_MS. -ENOMEM: it is not called. */
int path_look(struct node *n, const char *path, path_look_fn look, void (*done)(void *arg, int r, const struct err *err), void *arg,
	      struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* image.h - what machines begin as: a disk, and a kernel and initial RAM disk when it is started without a boot
 * loader. An image is made once, by copying a disk, from one that a client
 * sends or a web server has, or from a distribution's packages, and never changes: the
 * disks of machines are layers over it. Files lie in DATA/images/UID. Loop thread. */
#ifndef NODE_IMAGE_H
#define NODE_IMAGE_H

#include <jansson.h>
#include <stddef.h>
#include "api/schema.h"

struct controller_kind;
struct err;
struct node;

extern const struct schema image_schema;

int image_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
/* The uid of the image that SPEC, of an instance of PROJECT, names: new reference. NULL: there is none. */
json_t *image_uid_of(struct node *n, const char *project, const json_t *spec);
/* Can the file PATH, which one shall be made of, be read? On another thread. */
int image_look(const char *path, struct err *err);
/* -EBUSY: machines stand on it. */
int image_check_delete(struct node *n, const json_t *doc, struct err *err);

extern const struct controller_kind image_kind;

struct upload_place;
/* Where a client's bytes for the image under KEY go. -EAGAIN: not yet anywhere. */
int image_upload_place(struct node *n, const char *key, struct upload_place *out, struct err *err);

/* Paths from malloc(); KERNEL and INITRD may be NULL. */
struct image_files {
	char *disk, *format, *kernel, *initrd;
};
/* -ENOENT: there is no such image; -EAGAIN: it is not ready. */
int image_find(struct node *n, const char *project, const char *name, struct image_files *out, struct err *err);
/* What DOC, an instance, is started with: the files of its image; or its own, without a disk, when it stands alone ('alone'). */
int image_find_of(struct node *n, const json_t *doc, struct image_files *out, struct err *err);
/* Kernel and initial RAM disk of FILES under names of DIR, an instance's or an image's directory. Those that are there stay. */
int image_share_boot(const struct image_files *files, const char *dir, struct err *err);
void image_files_free(struct image_files *f);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* image_source.h - an image that is made from the first disk of an instance, which is off, and stays off until that is copied: all
 * of it, with what is below it. Loop thread. */
#ifndef NODE_IMAGE_SOURCE_H
#define NODE_IMAGE_SOURCE_H

#include <jansson.h>
#include <stdint.h>

struct err;
struct instance;
struct node;

/* Embedded in its owner's struct; begins as zeroes. */
struct image_source {
	struct instance *held;          /* NULL: none */
};

/* May an image of PROJECT be made from the instance NAME now? -EINVAL: there is none, or it has no disk; -EBUSY: it is not off. */
int image_source_check(struct node *n, const char *project, const char *name, struct err *err);
/* Keep it off, and its disk as it is, until image_source_give(). -EBUSY: not now, ask again; -ENOENT: it has gone. */
int image_source_take(struct image_source *s, struct node *n, const char *project, const char *name, struct err *err);
void image_source_give(struct image_source *s);
/* The file to be copied, of what is taken, and its format; both from malloc(). What its image is started with besides a disk is put
 * into DIR, which is there. */
int image_source_files(const struct image_source *s, const char *dir, char **path, char **format, struct err *err);
/* Bytes that such an image takes at most: the disk as guests see it. 0: the instance has gone. */
uint64_t image_source_size(struct node *n, const char *project, const char *name, uint64_t (*of_image)(struct node *n, const char *project,
													const char *name));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* image_priv.h - the files of images, as image.c (documents) and image_make.c (the controller) know them. */
#ifndef NODE_IMAGE_PRIV_H
#define NODE_IMAGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

struct node;

/* Where the files of the image UID are. */
void image_dir(const struct node *n, const char *uid, char *dir, size_t cap);
bool image_has_file(const char *dir, const char *name);
/* Is it whole there? */
bool image_is_made(const char *dir);

#endif

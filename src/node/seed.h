/* SPDX-License-Identifier: Apache-2.0 */
/* seed.h - what an instance is told about itself when it begins: its name, who may log in, what it shall do. It is a disk
 * called "cidata" with the files of cloud-init's data source NoCloud, which cloud-init and the images that are built here read.
 * Loop thread. */
#ifndef NODE_SEED_H
#define NODE_SEED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct err;

enum { SEED_DATA_MAX = 64 << 10, SEED_KEY_MAX = 8192 };

/* May SPEC of an instance's document say that? WHERE gets the path of what is wrong. */
int seed_check(const json_t *spec, char *where, size_t cap, struct err *err);
/* Does an instance of SPEC get the disk? Each that has an image does, and each that is told something. */
bool seed_is_wanted(const json_t *spec);
/* Write the disk of the instance NAME with UID to PATH. */
int seed_write(const char *path, const char *name, const char *uid, const json_t *spec, struct err *err);

#endif

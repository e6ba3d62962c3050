/* SPDX-License-Identifier: Apache-2.0 */
/* url.h - addresses of disks elsewhere: "nbd://host/export", "https://host/disk.img#cache=/var/cache/disk".
 *
 * RFC 3986, read strictly: an unknown or empty part is an error, never guessed. Behind '#' stand options of the
 * protocol ("name=value,name=value"), which are ours and never sent. A password in an address is refused: secrets do
 * not stand in command lines. A file whose name looks like an address is opened as "file:NAME". Any thread. */
#ifndef BLK_URL_H
#define BLK_URL_H

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;

struct blk_url {
	char scheme[16];                /* "nbd+unix"; lower case */
	char user[128];                 /* "": none */
	char host[256];                 /* name or address, an IPv6 one without its brackets; "": none */
	uint16_t port;                  /* 0: none */
	char *path;                     /* decoded, with its '/'; "": none; owned */
	char *query;                    /* as it stands behind '?'; NULL: none; owned */
	char *options;                  /* as it stands behind '#'; NULL: none; owned */
	char *plain;                    /* the address without options; owned */
};

/* Does TEXT begin as an address, "scheme://"? */
bool blk_url_is(const char *text);
int blk_url_parse(struct blk_url *u, const char *text, struct err *err);
void blk_url_fini(struct blk_url *u);           /* zeroed is fine */
static inline void auto_blk_url_fini(struct blk_url *u) { blk_url_fini(u); }
/* The decoded value of NAME in the query "a=b&c=d": 1, and *OUT is allocated; 0: it is not there. */
int blk_url_query(const struct blk_url *u, const char *name, char **out, struct err *err);
/* BASE up to its last '/', and NAME behind it with all that means something in an address encoded. */
int blk_url_join(char **out, const char *base, const char *name, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* instance_hold.h - others work on the disks of an instance, which stays off for so long. Loop thread. */
#ifndef NODE_INSTANCE_HOLD_H
#define NODE_INSTANCE_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include "util/json.h"

struct err;
struct instance;
struct node;
struct vmm;
struct works;

enum { INSTANCE_DISKS_MAX = 16 };

/* The instance NAME of PROJECT, if it is the one with UID. NULL: it is not there (any more). */
struct instance *instance_find(struct node *n, const char *project, const char *name, const char *uid);
/* The same for who is going to hold it. NULL also when its files are being removed: it does not wait for anybody then. */
struct instance *instance_find_to_hold(struct node *n, const char *project, const char *name, const char *uid);
/* The file with the memory of its snapshot UID, beside its disk. From malloc(); NULL: out of memory. */
char *instance_saved_path(const struct instance *i, const char *uid);
/* It will not start until instance_release(). With CUTS the power goes when it is on; it is on again afterwards if that is
 * wanted. Each hold needs its release; the instance lasts until then. */
void instance_hold(struct instance *i, bool cuts);
void instance_release(struct instance *i);
/* Is it off, with nobody at its disks but who holds it? */
bool instance_is_off(const struct instance *i);
/* Has its machine just begun, or is it just ending? */
bool instance_is_between(const struct instance *i);
/* Others have the machine stand still and copy its disks as they are: the daemon lets it go on only when they have let go. Each has its
 * end. */
void instance_stand_still(struct instance *i);
void instance_let_go(struct instance *i);
bool instance_is_still(const struct instance *i);
/* Has its machine been asked to stand still or to go on, and not answered yet? Any thread. */
bool instance_is_asked(const struct instance *i);
/* The path of the running machine's control socket. */
void instance_control_path(const struct instance *i, char *path, size_t cap);
/* Of one that is held and off: begin to work on its disks. False: another does, who would be in the way; ask again later.
 * Who only reads is not in the way of those who read. */
bool instance_take_disks(struct instance *i, bool writes);
void instance_give_disks(struct instance *i, bool writes);
/* Of one that is held, whether it runs or not: begin to move one of its further disks elsewhere, or to have its machine flatten disks. Until the end of that nobody can take its disks, who
 * would look for that one where it was. False: somebody has taken them; ask again later. */
bool instance_begin_move(struct instance *i);
void instance_end_move(struct instance *i);
bool instance_has_moves(const struct instance *i);
/* The connection to the running machine; NULL: it does not run, or does not answer now. */
struct vmm *instance_vmm(const struct instance *i);

/* Disks that it can write. */
struct instance_disks {
	unsigned n;
	char *path[INSTANCE_DISKS_MAX];         /* from malloc() */
	char name[INSTANCE_DISKS_MAX][8];       /* for the machine's control socket */
};
/* -EAGAIN: one is not there yet; with IS_PARTIAL that one is left out. */
int instance_disks(struct instance_disks *out, struct instance *i, const json_t *doc, bool is_partial, struct err *err);
/* Who waits for the file systems that the disks of DOC, which is I's, are in: if one is in a pool, that one's threads. */
struct works *instance_disks_works(const struct instance *i, const json_t *doc);
void instance_disks_clear(struct instance_disks *d);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* template.h - machines that are kept warm: a booted image at its idle prompt, its disk and its memory of the same instant, from which
 * instances of the same shape begin within a second instead of booting.
 *
 *	DATA/templates/UID/             whole under that name, and never changed
 *	               UID/template.json        which image and shape it is of
 *	               UID/root.qcow2           its disk, a layer over the image
 *	               UID/memory
 *	               UID.tmp/         being made, by the task that has that uid among its params
 *
 * An instance takes copies: of the disk, and another name of the memory, so a template may go while machines run that began as it.
 * A template is of one image, number of processors, size of memory and so on, and of one viv-vmm: its key says all of it. Nobody's data
 * is in it: the machine that it was told nothing but the name "template". How such an instance becomes a machine of its own: see
 * instance_fork.c. Loop thread, but for what is said to be for workers. */
#ifndef NODE_TEMPLATE_H
#define NODE_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "api/schema.h"
#include "node/doc.h"

struct api_call;
struct err;
struct node;
struct task_op;
struct templates;

enum { TEMPLATES_DEFAULT = 4, TEMPLATES_LIMIT = 64, TEMPLATE_WHY_LEN = 300 };
#define TEMPLATES_SIZE ((uint64_t)4 << 30)

struct template {
	struct template *next;
	struct node *node;
	char uid[DOC_UID_LEN + 1], image_uid[DOC_UID_LEN + 1];
	char *key;                      /* see template_key() */
	char *dir;
	char made[DOC_TIME_LEN + 1], used[DOC_TIME_LEN + 1];
	uint64_t use;                   /* the number of its last use: the least goes first */
	uint64_t bytes;                 /* that it takes on the disk */
	json_t *spec;                   /* of the shape */
	unsigned n_users;               /* workers that copy from it */
	bool is_dropped;                /* it goes with the last of them */
};

/* At most MAX (0: none are made or used) of at most BYTES together. Those of the daemon before this one are there again, unless they are of
 * another viv-vmm. */
int templates_open(struct templates **out, struct node *n, unsigned max, uint64_t bytes, struct err *err);
void templates_close(struct templates *ts);     /* NULL is fine */
unsigned templates_max(const struct templates *ts);
/* Which viv-vmm theirs is: a text that another one does not have. */
const char *templates_program(const struct templates *ts);

/* --- template_fit.c ---------------------------------------------------- */

/* Can an instance of SPEC begin as a template at all? -ENOTSUP with what stands against it. */
int template_check(const json_t *spec, struct err *err);
/* What template and instance must have the same, from malloc(); NULL: out of memory, or there is no such image. */
char *template_key(struct node *n, const char *project, const json_t *spec);

/* --- template.c ---------------------------------------------------- */

/* The one for an instance of SPEC, kept until template_give(). NULL, with the reason in WHY: there is none. */
struct template *template_take(struct node *n, const char *project, const json_t *spec, char why[TEMPLATE_WHY_LEN]);
void template_give(struct template *t);
/* A new one, in its directory: it is among the others, of which the ones used least go when they are too many. */
int template_add(struct node *n, const char *uid, struct err *err);
/* Is there one with KEY? */
bool template_is_there(const struct node *n, const char *key);
/* Making one with KEY has failed (WHY), and is not tried again by itself for a while. */
void template_note_failure(struct node *n, const char *key, const char *why);
/* Those beyond the bounds go, and one when the pool is beyond its limit. */
void templates_make_room(struct node *n);
/* All of the image UID go. */
void templates_drop(struct node *n, const char *image_uid);
/* Those of the image UID, for its status. New reference. */
json_t *templates_of(const struct node *n, const char *image_uid);

/* --- template_make.c: the task that makes one ---------------------------------------------------- */

extern const struct task_op template_make_op;

/* --- template_api.c ---------------------------------------------------- */

extern const struct schema warm_schema;

void image_warm(struct api_call *c);            /* POST /v1/images/{name}/warm */
void image_cool(struct api_call *c);            /* POST /v1/images/{name}/cool */
/* Is there room for one of SPEC? -ENOSPC. */
int template_check_room(struct node *n, const json_t *spec, struct err *err);
/* The instance of DOC has begun without one: is one made for the next? WHY says so, or why not. */
void template_want(struct node *n, const json_t *doc, char why[TEMPLATE_WHY_LEN]);

/* --- template_guest.c: programs for guests ---------------------------------------------------- */

/* What the guest of a template does before it is saved. */
extern const char template_settle[];
/* What the guest of an instance does to become a machine of its own; "$1" is the time in seconds since 1970, its standard input random. */
extern const char template_renew[];

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* auth_priv.h - what the files about who may do what share. */
#ifndef NODE_AUTH_PRIV_H
#define NODE_AUTH_PRIV_H

#include <stdint.h>
#include <sys/types.h>
#include "node/audit.h"
#include "node/audit_pieces.h"
#include "node/auth.h"
#include "node/doc.h"
#include "node/secret.h"
#include "node/throttle.h"
#include "store/store.h"
#include "util/loop.h"

enum {
	AUTH_SESSION_S = 12 * 3600,     /* a session ends, */
	AUTH_IDLE_S = 2 * 3600,         /* and earlier when nothing is asked for so long */
	AUTH_SESSIONS_MAX = 32,         /* of one user: then the oldest ends */
	AUTH_TIDY_S = 600,
};

/* A session in use. Forgotten with the daemon: then its idle time begins anew. */
struct auth_use {
	char key[STORE_KEY_MAX + 1];
	uint64_t last_s;
	struct auth_use *next;
};

struct works;

struct auth {
	struct node *node;
	struct auth_config config;
	gid_t gid;
	struct throttle throttle;
	unsigned n_logins;              /* that a worker looks at */
	char setup[SECRET_LEN + 1];
	bool is_setting_up;             /* the password of the first administrator is being hashed */
	struct auth_use *uses;
	struct auth_socket *sockets;
	struct store_watch watch;       /* of all: did somebody lose a role, a token, a session? */
	struct loop_timer recheck, tidy, keep_head;
	struct audit *audit;
	struct works *recorder;         /* the thread that writes to it */
	struct audit_pieces pieces;     /* of files that are written inside of machines */
	uint64_t records_lost;
	bool is_stopped;                /* the store goes, or has gone */
	char *audit_dir;
	bool is_head_stale;             /* the store has not got the audit log's head yet */
	int64_t denials_minute;         /* of these DENIALS have been written to the log, DENIALS_LEFT_OUT not */
	unsigned denials, denials_left_out;
};

/* Where the documents lie. */
#define AUTH_ALL "_"                    /* in place of a project, of what belongs to none */

/* The session of C's cookie: its document's key, and the cookie itself. False: there is none. */
bool auth_cookie(const struct api_call *c, char secret[SECRET_LEN + 1], char *key, size_t cap);
/* What a page sends with every change: only who can read answers of this origin knows it. */
void auth_csrf(char csrf[SECRET_HASH_LEN + 1], const char *secret);
void auth_tidy(struct auth *a);
/* A session of the user whose document is USER, with which C is answered. CODE (copied; NULL: nothing) is what
 * factor_check() wants to be in the same commit: when somebody else has used the code meanwhile, there is no session. */
void auth_open_session(struct api_call *c, const json_t *user, const struct store_op *code, int status);
/* The deletion of USER's sessions but for the one with the key KEEP: that many of OPS, at most MAX. KEYS has room for as
 * many keys. */
unsigned auth_end_sessions(struct node *n, const char *user, const char *keep, struct store_op *ops,
			   char (*keys)[STORE_KEY_MAX + 1], unsigned max);

/* "a.b" of DOC as a string; "" when it is none. */
const char *auth_text(const json_t *doc, const char *outer, const char *inner);
extern const char *const auth_role_names[];     /* by enum api_role */

/* --- auth_audit.c ---------------------------------------------------- */

int auth_open_audit(struct auth *a, struct err *err);
void auth_stop_audit(struct auth *a);

/* --- auth_socket.c ---------------------------------------------------- */

/* Close those that their users may no longer have. */
void auth_check_sockets(struct auth *a);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* control_priv.h - the rows of the table of requests, for control.c (connections), control_check.c
 * (parameters), control_requests.c (the table), control_doc.c (documentation) and ctl.c (the client). */
#ifndef VM_CONTROL_PRIV_H
#define VM_CONTROL_PRIV_H

#include <stdbool.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/json.h"
#include "vm/control.h"

enum {
	CONTROL_PROTOCOL = 1,           /* version; a client may rely on what docs/api/control.md says of it */
	CONTROL_REQUEST_MAX = 64 << 10, /* bytes of one request */
	CONTROL_REPLY_MAX = 1 << 20,    /* bytes that may wait for one client */
	CONTROL_FDS_MAX = 24,           /* descriptors of one request */
	CONTROL_WAITING_MAX = 32,       /* requests in line */
};

enum control_kind {
	CONTROL_STRING,
	CONTROL_CHOICE,         /* a string, one of CHOICES */
	CONTROL_UINT,
	CONTROL_SIZE,           /* bytes, or a string like "256M" */
	CONTROL_BOOL,
	CONTROL_STRINGS,        /* an array */
	CONTROL_NEW_FILE,       /* a descriptor beside the request; the client makes the file and renames it in the end */
	CONTROL_IMAGE,          /* the same, of an image, for reading and writing; the client says its name in 'path' */
	CONTROL_DEVICE,         /* a descriptor beside the request, if there is one: the client opens what 'type' and 'settings', or 'path', name */
	CONTROL_SECRET,         /* a descriptor beside the request and behind all others, if there is one: of a file with a passphrase */
	CONTROL_SOCKET,         /* a descriptor beside the request; the client connects to an address of migrate.h */
	CONTROL_FILES,          /* descriptors after that, one for each name in 'files' */
	CONTROL_SOCKETS,        /* the same as CONTROL_SOCKET, as many as control_sockets() says, to CONTROL_FDS_MAX */
};

struct control_param {
	const char *name;       /* NULL ends the list */
	enum control_kind kind;
	bool is_required;
	const char *metavar;    /* for people */
	const char *help;
	const char *choices;    /* space-separated */
};

struct control_call;

struct control_request {
	const char *name;       /* NULL ends the table */
	const char *help;       /* one line */
	const char *more;       /* sentences for the documentation; NULL: nothing to say */
	const char *result;     /* what the reply's "result" has; NULL: an empty object */
	const struct control_param *params;     /* NULL: none */
	unsigned states;        /* bits of enum machine_state in which it is allowed */
	/* 0: answered, with call->result if it has one (taken); 1: control_finish() will come; -errno. */
	int (*run)(struct control_call *call, struct err *err);
};
extern const struct control_request control_requests[];

/* Name and meaning of an event, by enum machine_event. */
struct control_event {
	const char *name, *help;
	const char *detail;     /* the key of its detail; NULL: "reason" */
};
extern const struct control_event control_events[MACHINE_N_EVENTS];

/* A request that is being worked on. */
struct control_call {
	struct control *control;
	struct control_client *client;  /* NULL: gone meanwhile */
	const struct control_request *request;
	json_t *id;                     /* the client's; NULL: none */
	json_t *params;                 /* an object that the table allows, owned */
	int fd[CONTROL_FDS_MAX];        /* its descriptors, owned; -1: taken or none */
	unsigned n_fds;                 /* that came */
	json_t *result;
	/* Called once instead of control_finish(), which it calls in the end; RESULT is taken. NULL: none. */
	void (*hook)(struct control_call *call, json_t *result, const struct err *err);
	void *hook_arg;
	uint64_t turn;                  /* its place in line; 0: it has begun */
	uint64_t since_ns;              /* it waits */
	struct control_call *next;      /* among those under way */
};

/* Requests that are being worked on, and those that wait for their turn. */
struct control_calls {
	struct control_call *first;
	const struct control_call *ahead;       /* has come from the line, is not answered yet; NULL: none */
	uint64_t last_turn;             /* that was given */
	unsigned n_waiting;
	bool is_looking;                /* somebody's turn may have come: control_calls_look() follows */
};

/* --- control.c --- */
struct machine *control_machine(const struct control *c);
const struct config *control_get_config(const struct control *c);
void control_set_events(struct control_client *client, bool on);
/* To all who asked for events: EVENT, an object (taken; NULL: out of memory). Time is added. */
void control_emit(struct control *c, json_t *event);
struct control_calls *control_get_calls(struct control *c);
/* Answer CL. RESULT (NULL: empty object) and ID (NULL: none) are taken; or, with ERR not NULL, it failed. */
void control_reply(struct control_client *cl, json_t *id, json_t *result, const struct err *err);

/* --- control_calls.c --- */
/* What a request waits for, in line with others of the kind; bits. One that waits for anything waits for the end of a reset, too. */
enum control_turn {
	CONTROL_TURN_SAVE = 1,          /* the end of a save */
	CONTROL_TURN_MOVE = 2,          /* of a migration or an upgrade */
	CONTROL_TURN_MEMORY = 4,        /* until all of the machine's memory has come */
};
/* Of R with PARAMS; NULL: whatever they are. 0: it never waits. */
unsigned control_turn(const struct control_request *r, const json_t *params);
/* CALL has come, is owned and has been checked: do it now, or when its turn comes. */
void control_calls_begin(struct control_call *call);
/* Answer a call whose handler returned 1, and free it. RESULT (NULL: empty object) is taken; or, with ERR not
 * NULL, it failed. */
void control_finish(struct control_call *call, json_t *result, const struct err *err);
/* Somebody's turn may have come. */
void control_calls_go_on(void *control);
/* CL is gone: what it has in line is not done, what is under way is answered to nobody. */
void control_calls_forget(struct control *c, const struct control_client *cl);
/* The machine has ended: none of those in line is done. REASON as of the event. */
void control_calls_end(struct control *c, const char *reason);
void control_calls_drop(struct control *c);             /* free all, answer nobody */
int control_waiting(struct control_call *call, struct err *err);
int control_waiting_cancel(struct control_call *call, struct err *err);
extern const struct control_param control_waiting_cancel_params[];

/* --- control_check.c --- */
/* NULL: there is none, and ERR says so. */
const struct control_request *control_find(const char *name, struct err *err);
/* Is DOC, of what a client sent, a request that may run in STATE with N_FDS descriptors? On success *REQUEST,
 * and *PARAMS as a new reference. */
int control_check(json_t *doc, enum machine_state state, unsigned n_fds, const struct control_request **request,
		  json_t **params, struct err *err);
/* May ROW be done in STATE? -EBUSY. */
int control_check_state(const struct control_request *row, enum machine_state state, struct err *err);
bool control_is_fd(const struct control_param *p);       /* its value is a descriptor */
unsigned control_n_fds(const struct control_request *r);  /* at most */
/* TEXT, as typed, as a JSON value of P's kind. */
int control_parse_param(json_t **out, const struct control_param *p, const char *text, struct err *err);
/* How many descriptors a CONTROL_SOCKETS with these is: connections for memory, and disks that go along. 0: what cannot be. */
uint64_t control_sockets(const struct control_request *r, const json_t *params);
/* Values of parameters that control_check() has seen; DEF when it is not there. */
uint64_t control_get_uint(const json_t *params, const char *name, uint64_t def);
uint64_t control_get_size(const json_t *params, const char *name, uint64_t def);
bool control_get_bool(const json_t *params, const char *name, bool def);
const char *control_get_string(const json_t *params, const char *name, const char *def);

/* --- control_doc.c --- */
void control_print_usage(FILE *to);
void control_print_request(FILE *to, const struct control_request *r);
/* The same of what `ctl` does by several requests, as fork; false: it is none of these. */
bool control_print_help(FILE *to, const char *name);
/* control_job.c: tell of the machine's jobs. */
void control_watch_jobs(struct control *c);
/* The table as a JSON array, for the request "describe". */
json_t *control_describe(void);

#endif

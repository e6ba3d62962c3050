/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on their way from the client to the answer, and the line in which those wait that have to.
 *
 * While a machine is being saved, migrated or upgraded, what it consists of must not change: what would change it waits for
 * the end of that, as a table says of each. Whoever can go on goes on, first come first served. A client that
 * goes away takes what it has in line with it; a machine that goes away answers those in line that nothing has been done. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"
#include "util/loop.h"
#include "vm/control_priv.h"
#include "vm/control_set.h"
#include "vm/machine_priv.h"
#include "vm/migrate.h"

static void control_call_free(struct control_call *call)
{
	for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
		auto_fd(&call->fd[i]);
	json_decref(call->id);
	json_decref(call->params);
	json_decref(call->result);
	free(call);
}

static void calls_remove(struct control_call *call)
{
	struct control_call **at = &control_get_calls(call->control)->first;

	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
}

/* CALL is about to be answered: who waited for that goes on. */
static void calls_let_next(const struct control_call *call)
{
	struct control_calls *calls = control_get_calls(call->control);

	if (calls->ahead != call)
		return;
	calls->ahead = NULL;
	control_calls_go_on(call->control);
}

void control_finish(struct control_call *call, json_t *result, const struct err *err)
{
	void (*hook)(struct control_call *call, json_t *result, const struct err *err) = call->hook;

	call->hook = NULL;
	if (hook) {
		hook(call, result, err);
		return;
	}
	calls_remove(call);
	calls_let_next(call);
	if (call->client)
		control_reply(call->client, take_ptr(&call->id), result, err);
	else
		json_decref(result);
	control_call_free(call);
}

static void call_run(struct control_call *call)
{
	struct err err = ERR_INIT;
	int r = control_check_state(call->request, machine_get_state(control_machine(call->control)), &err);

	if (!r)
		r = call->request->run(call, &err);
	if (r <= 0)
		control_finish(call, take_ptr(&call->result), r < 0 ? &err : NULL);
}

/* --- the line --- */

/* What would change a machine that is being saved or moved. */
#define TURN_CHANGE (CONTROL_TURN_SAVE | CONTROL_TURN_MOVE)

/* Who waits for what. A second migration does not: after the first it makes no sense. */
static const struct {
	const char *request;
	unsigned turn;
	unsigned (*turn_of)(const json_t *params);      /* of TURN; NULL: all of it */
} turns[] = {
	{ "save", TURN_CHANGE | CONTROL_TURN_MEMORY, NULL },
	{ "migrate", CONTROL_TURN_SAVE | CONTROL_TURN_MEMORY, NULL },
	{ "upgrade", CONTROL_TURN_SAVE | CONTROL_TURN_MEMORY, NULL },
	{ "set", TURN_CHANGE, control_set_turn },
	{ "plug", TURN_CHANGE, NULL },
	{ "unplug", TURN_CHANGE, NULL },
	{ "eject", TURN_CHANGE, NULL },
	{ "insert", TURN_CHANGE, NULL },
	{ "disk-resize", TURN_CHANGE, NULL },
	{ "disk-snapshot", TURN_CHANGE, NULL },
	{ "disk-stream", TURN_CHANGE, NULL },
	{ "disk-commit", TURN_CHANGE, NULL },
	{ "disk-mirror", TURN_CHANGE, NULL },
	{ "disk-backup", TURN_CHANGE, NULL },
	{ "bitmap-add", TURN_CHANGE, NULL },
	{ "bitmap-remove", TURN_CHANGE, NULL },
	{ "bitmap-clear", TURN_CHANGE, NULL },
	{ "snapshot-create", TURN_CHANGE, NULL },
	{ "snapshot-delete", TURN_CHANGE, NULL },
};

unsigned control_turn(const struct control_request *r, const json_t *params)
{
	for (size_t i = 0; i < ARRAY_LEN(turns); i++)
		if (!strcmp(turns[i].request, r->name))
			return params && turns[i].turn_of ? turns[i].turn & turns[i].turn_of(params) : turns[i].turn;
	return 0;
}

/* What CALL has to wait for, as in "the end of ..."; NULL: nothing. */
static const char *call_obstacle(const struct control_call *call)
{
	const struct machine *m = control_machine(call->control);
	unsigned turn = control_turn(call->request, call->params);

	if (turn & CONTROL_TURN_SAVE && m->save)
		return "a save";
	if (turn & CONTROL_TURN_MOVE && migration_will_end(m))
		return "a migration";
	if (turn & CONTROL_TURN_MEMORY && m->lazy && !atomic_load(&m->is_cut_off))
		return "post-copy";
	if (turn && m->state == MACHINE_RESETTING)
		return "a reset";
	return turn && control_get_calls(call->control)->ahead ? "another" : NULL;
}

static json_t *call_describe(const struct control_call *call, const char *obstacle)
{
	return json_pack("{s:I, s:s, s:s*}", "number", (json_int_t)call->turn, "request", call->request->name, "for", obstacle);
}

/* A call in line is out of it; how, is the caller's business. */
static void call_leave_line(struct control_call *call)
{
	control_get_calls(call->control)->n_waiting--;
	call->turn = 0;
}

static void call_refuse(struct control_call *call, const struct err *err)
{
	call_leave_line(call);
	control_finish(call, NULL, err);
}

/* The first in line behind the place AFTER. */
static struct control_call *calls_next(struct control *c, uint64_t after)
{
	struct control_call *found = NULL;

	for (struct control_call *call = control_get_calls(c)->first; call; call = call->next)
		if (call->turn > after && (!found || call->turn < found->turn))
			found = call;
	return found;
}

static void control_calls_look(void *arg)
{
	struct control *c = arg;
	const struct err unheard = { .code = -ECANCELED };
	struct control_call *call;

	control_get_calls(c)->is_looking = false;
	for (uint64_t turn = 0; (call = calls_next(c, turn));) {
		turn = call->turn;
		if (!call->client) {
			call_refuse(call, &unheard);
		} else if (!call_obstacle(call)) {
			call_leave_line(call);
			control_get_calls(c)->ahead = call;
			call_run(call);         /* and the next when it has been answered */
		}
	}
}

void control_calls_go_on(void *arg)
{
	struct control *c = arg;
	struct control_calls *calls = control_get_calls(c);

	if (calls->n_waiting && !calls->is_looking && machine_get_state(control_machine(c)) != MACHINE_ENDED)
		calls->is_looking = !loop_call(control_machine(c)->loop, control_calls_look, c);
}

static int call_wait(struct control_call *call, const char *obstacle, struct err *err)
{
	struct control_calls *calls = control_get_calls(call->control);

	if (calls->n_waiting == CONTROL_WAITING_MAX)
		return err_set(err, -EBUSY, "'%s' has to wait for the end of %s, and %d requests wait already; 'waiting' lists them",
			       call->request->name, obstacle ? obstacle : "others", CONTROL_WAITING_MAX);
	calls->n_waiting++;
	call->turn = ++calls->last_turn;
	call->since_ns = loop_now_ns();
	json_t *event = call_describe(call, obstacle);

	if (event)
		json_object_set_new(event, "event", json_string("waiting"));
	control_emit(call->control, event);
	return 0;
}

void control_calls_begin(struct control_call *call)
{
	struct control_calls *calls = control_get_calls(call->control);
	const char *obstacle = call_obstacle(call);
	struct err err = ERR_INIT;

	call->next = calls->first;
	calls->first = call;
	/* Nobody jumps the queue of those whose turn has just come. */
	if (!obstacle && !(calls->is_looking && control_turn(call->request, call->params)))
		call_run(call);
	else if (call_wait(call, obstacle, &err) < 0)
		control_finish(call, NULL, &err);
}

/* --- ends --- */

void control_calls_forget(struct control *c, const struct control_client *cl)
{
	bool waits = false;

	for (struct control_call *call = control_get_calls(c)->first; call; call = call->next) {
		if (call->client != cl)
			continue;
		call->client = NULL;
		waits |= call->turn != 0;
	}
	if (waits)
		control_calls_go_on(c);
}

void control_calls_end(struct control *c, const char *reason)
{
	bool has_moved = reason && !strcmp(reason, "migrated");
	struct control_call *call;
	struct err err = ERR_INIT;

	if (has_moved)
		err_set(&err, -EREMCHG, "nothing was done: the machine runs at the other side by now; ask it there");
	else
		err_set(&err, -ECANCELED, "nothing was done: the machine has ended (%s)", reason ? reason : "no reason");
	while ((call = calls_next(c, 0)))
		call_refuse(call, &err);
}

void control_calls_drop(struct control *c)
{
	struct control_calls *calls = control_get_calls(c);

	for (struct control_call *call = calls->first, *next; call; call = next) {
		next = call->next;
		control_call_free(call);
	}
	calls->first = NULL;
}

/* --- requests about the line --- */

const struct control_param control_waiting_cancel_params[] = {
	{ "number", CONTROL_UINT, true, "NUMBER", "its number, as `waiting` tells", NULL },
	{ .name = NULL },
};

int control_waiting(struct control_call *call, struct err *err)
{
	json_t *list = json_array();

	const struct control_call *at = NULL;

	while ((at = calls_next(call->control, at ? at->turn : 0))) {
		json_t *one = call_describe(at, call_obstacle(at));

		if (one)
			json_object_set_new(one, "since_ns", json_integer((json_int_t)at->since_ns));
		json_array_append_new(list, one);
	}
	call->result = json_pack("{s:o}", "waiting", list);
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int control_waiting_cancel(struct control_call *call, struct err *err)
{
	uint64_t number = control_get_uint(call->params, "number", 0);
	struct control_call *at = number ? calls_next(call->control, number - 1) : NULL;
	struct err why = ERR_INIT;

	if (!at || at->turn != number)
		return err_set(err, -ENOENT, "no request %" PRIu64 " waits; 'waiting' lists those that do", number);
	err_set(&why, -ECANCELED, "nothing was done: the request was cancelled while it waited");
	call_refuse(at, &why);
	return 0;
}

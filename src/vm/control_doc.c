/* SPDX-License-Identifier: Apache-2.0 */
/* The table of requests for people and programs: docs/api/control.md, `viv-vmm ctl --help`, "describe". */
#include <string.h>
#include "util/checked.h"
#include "vm/control_priv.h"

static const char *const kind_names[] = {
	[CONTROL_STRING] = "string", [CONTROL_CHOICE] = "string", [CONTROL_UINT] = "number",
	[CONTROL_SIZE] = "number of bytes, or string", [CONTROL_BOOL] = "boolean", [CONTROL_STRINGS] = "array of strings",
	[CONTROL_NEW_FILE] = "descriptor", [CONTROL_IMAGE] = "descriptor", [CONTROL_DEVICE] = "descriptor",
	[CONTROL_SECRET] = "descriptor",
	[CONTROL_SOCKET] = "descriptor", [CONTROL_SOCKETS] = "descriptors", [CONTROL_FILES] = "descriptors",
};

/* --- ctl --help --- */

/* What is not, the client finds out and hands over by itself. */
static bool is_typed(const struct control_param *p)
{
	return *p->metavar;
}

static void control_print_synopsis(FILE *to, const struct control_request *r)
{
	fprintf(to, "%s", r->name);
	for (const struct control_param *p = r->params; p && p->name; p++)
		if (is_typed(p))
			fprintf(to, p->is_required ? " %s" : " [%s]", p->metavar);
}

#define EXEC_MORE \
	"  --input      what the program reads: a file, or - for standard input; nothing unless given\n" \
	"  --timeout    how long its end is waited for, in seconds; 60 unless given\n" \
	"  PROGRAM      all behind it is the program's, whatever it looks like\n"

/* What the client does by several requests. Those that are in the list of requests, too, are not shown twice. */
static const struct {
	const char *name, *synopsis, *help;
	bool is_request;
	const char *more;
} control_programs[] = {
	{ "fork", "[-n N] [--dir DIR] [-- OPTION...]", "start copies of the machine", false,
	  "The machine goes on; its writable disks and those of the copies stand on what they were. Copy I is called NAME-I and listens on SOCKET-I.\n\n"
	  "  -n           how many; 1 unless given\n"
	  "  --dir        where the new images are made; beside those that there are unless given\n"
	  "  --           options of viv-vmm for the copies follow, with {} for the copy's number" },
	{ "upgrade", "[BINARY]", "another viv-vmm of this host takes the running machine over", true,
	  "  BINARY       that viv-vmm; the one that is this command unless given" },
	{ "agent", "VERB... | exec [--input FILE] [--timeout SECONDS] [--] PROGRAM [ARG...] | read PATH | write PATH",
	  "ask the guest agent", false,
	  "  VERB         as the request agent-VERB, with its values: agent ping\n"
	  "  exec         run a program in the guest; its output comes here, and its status\n" EXEC_MORE
	  "  read, write  a file of the guest, to standard output or from standard input" },
	{ "agent-exec", "[--json] [--input FILE] [--timeout SECONDS] [--] PROGRAM [ARG...]",
	  "run a program in the guest and wait for its end", true,
	  "The answer is printed as it is, what the program wrote in base64; with 'agent exec' that comes here by itself.\n\n" EXEC_MORE
	  "  --json       print the machine's answer as it is" },
};

bool control_print_help(FILE *to, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(control_programs); i++) {
		if (strcmp(control_programs[i].name, name) != 0)
			continue;
		fprintf(to, "usage: viv-vmm ctl SOCKET %s %s\n\n%s.\n%s\n", name, control_programs[i].synopsis, control_programs[i].help,
			control_programs[i].more);
		return true;
	}
	return false;
}

void control_print_usage(FILE *to)
{
	fprintf(to, "usage: viv-vmm ctl SOCKET REQUEST [VALUE | KEY=VALUE]... [--json]\n\n"
		"Control the machine that listens on SOCKET (viv-vmm --control SOCKET).\n\n");
	for (const struct control_request *r = control_requests; r->name; r++)
		fprintf(to, "  %-14s %s\n", r->name, r->help);
	for (size_t i = 0; i < ARRAY_LEN(control_programs); i++)
		if (!control_programs[i].is_request)
			fprintf(to, "  %-14s %s: %s %s\n", control_programs[i].name, control_programs[i].help, control_programs[i].name,
				control_programs[i].synopsis);
	fprintf(to, "\n  --json       print the machine's answer as it is\n"
		"  --help       after a REQUEST: what it takes\n\n"
		"Exit status: 0 done; 1 the machine refused; 2 not understood here; 3 the machine cannot be reached.\n");
}

void control_print_request(FILE *to, const struct control_request *r)
{
	fprintf(to, "usage: viv-vmm ctl SOCKET ");
	control_print_synopsis(to, r);
	fprintf(to, "\n\n%s%s\n", r->help, r->help[strlen(r->help) - 1] == '?' ? "" : ".");
	if (r->more)
		fprintf(to, "%s\n", r->more);
	for (const struct control_param *p = r->params; p && p->name; p++)
		if (is_typed(p))
			fprintf(to, "%s  %-12s %s (%s)\n", p == r->params ? "\n" : "", p->name, p->help, p->metavar);
}

/* --- docs/api/control.md --- */

static const char doc_head[] =
	"# The control socket\n"
	"\n"
	"Printed by `viv-vmm --print-api`; `tests/run docs` fails when this page is old.\n"
	"\n"
	"    viv-vmm --kernel vmlinuz --control /run/user/1000/web1.sock ...\n"
	"    viv-vmm ctl /run/user/1000/web1.sock info\n"
	"\n"
	"`viv-vmm --control PATH` listens on a Unix stream socket with permissions 0600. Only the user that runs the\n"
	"machine and root are served; at most 16 clients at a time: one more is answered EAGAIN. It never listens on a network.\n"
	"\n"
	"## Bytes\n"
	"\n"
	"A message is a length, 4 bytes little-endian, and that many bytes of JSON in UTF-8: one object. A request has at\n"
	"most 64 KiB. Descriptors (`SCM_RIGHTS`) travel with the first bytes of the request that they belong to.\n"
	"\n"
	"| from | message |\n"
	"|---|---|\n"
	"| client | `{\"request\": \"NAME\", \"params\": {...}, \"id\": 7}`; `params` and `id` (number or string) may be left out |\n"
	"| machine | `{\"result\": {...}, \"id\": 7}`; `id` is the request's |\n"
	"| machine | `{\"error\": {\"code\": \"EBUSY\", \"message\": \"...\"}, \"id\": 7}`: nothing has been done. `code` is the name of "
	"an errno, `message` a sentence for people |\n"
	"| machine | `{\"event\": \"paused\", \"time_ns\": 123}`, to clients that asked for `events`; `time_ns` is CLOCK_MONOTONIC, "
	"some have a `reason` |\n"
	"\n"
	"- Requests on one connection begin in their order. One that takes long is answered when it is done; others overtake it.\n"
	"- Unknown keys, parameters and requests are refused, and so are keys that stand twice.\n"
	"- A client that does not read is dropped when 1 MiB waits for it, one that sends a longer request at once. The\n"
	"  machine never waits for a client.\n"
	"- New requests, parameters, keys of results and events may be added: ignore what you do not know. What is here stays, or\n"
	"  `protocol` in `info` changes.\n"
	"\n"
	"For people there is `viv-vmm ctl SOCKET REQUEST [VALUE | KEY=VALUE]... [--json]`. It ends with 0 when the request was done,\n"
	"1 when the machine refused, 2 when it did not understand its arguments, 3 when the machine cannot be reached or\n"
	"has gone.\n"
	"\n"
	"## Waiting in line\n"
	"\n"
	"While a machine is being saved, migrated or upgraded, or is resetting, what it consists of does not change. A request that would change\n"
	"it waits for the end of that, in line with others, and is done and answered then; with each request stands what it waits for.\n"
	"\n"
	"- Which requests wait, and for what, is what `waiting` tells; the event of that name tells of one that begins to. `waiting-cancel`\n"
	"  takes one out of the line, and so does its client when it closes the connection. At most 32 wait; one more is refused with EBUSY.\n"
	"- When the machine goes on here - saved, or the migration has failed or was cancelled - they are done in their order. When it goes\n"
	"  on at the other side, or ends, nothing of them has been done: they are answered with EREMCHG (ask it there) or ECANCELED.\n"
	"- Not waited for is what need not end by itself, and the answer, EBUSY, says what to do: a job on a disk (`migrate`, `save` and `unplug`\n"
	"  want it to end before), a drive that the guest has locked, a migration that is in doubt or cut off, a second `migrate`.\n"
	"\n"
	"## Requests\n";

static const char doc_fork[] =
	"\n## Fork\n"
	"\n"
	"    viv-vmm ctl SOCKET fork -n 50 -- --console file:/tmp/copy{}.log\n"
	"\n"
	"starts running copies of a machine, which goes on itself. `ctl` saves it to a sealed memory file and starts a `viv-vmm\n"
	"--restore` on that for each copy: guest memory is shared until a copy writes it. Copy I is called NAME-I and listens on\n"
	"SOCKET-I; its process number and socket are printed when it runs, what it has to say goes to SOCKET-I.log. Options after `--` are for the copies, with `{}` for the\n"
	"number; without a `--console` among them, consoles lead nowhere.\n"
	"\n"
	"Of a copy that does not start nothing is left, and the last line of what it said is told. When none starts, or the fork is refused,\n"
	"interrupted or killed at any step before, the machine goes on as it was, on the images that it had, with what it has written meanwhile;\n"
	"that is done by a process of its own, which outlives the `ctl` that is killed. Copies that run already go on. A machine is\n"
	"forked by one at a time: its socket's name with `.fork.tmp` is a file then, which is locked.\n"
	"\n"
	"- Memory and disks are of one instant: the machine is paused for the save. Its writable disks go on in new images on top of\n"
	"  what they were (disk-snapshot), IMAGE.fork1 and so on; each copy has images of its own on top of the same, IMAGE.NAME-I. They are\n"
	"  made beside the disk's image, or in the folder of `--dir`. What they stand on must not be changed as long as any of them is used.\n"
	"  Readonly disks are shared. With a `--disk` after `--` the copies have those disks instead.\n"
	"- With a socket device each copy listens at SOCKET-I.vsock.\n"
	"- Each copy is a generation of its own: the guest is told ([vmgenid.md](../devices/vmgenid.md)), and Linux from 5.18 on reseeds its\n"
	"  random number generator. That takes the time of an interrupt: what a copy generates in its first moments, and what older guests do, may\n"
	"  be the same in all.\n"
	"- Each copy's network devices have MAC addresses of their own, derived from its name. A running Linux reads them only when its driver\n"
	"  starts: until then it keeps the one it has. The network cables are pulled for two seconds, so that guests ask for IP\n"
	"  addresses anew. Copies that cannot be told to change (`ip link set eth0 address ...` by an agent inside) belong into networks of their own,\n"
	"  as `user` gives each.\n"
	"- The guest's monotonic clock goes on from where it was, its wall clock is behind by the time since; the clock of the board (RTC) is\n"
	"  right. Names of the host, SSH keys and the like are the business of whoever makes copies.\n";

static void control_print_states(FILE *to, unsigned states)
{
	const char *sep = "";

	for (unsigned s = 0; s < MACHINE_N_STATES; s++) {
		if (!(states >> s & 1))
			continue;
		fprintf(to, "%s%s", sep, machine_state_name((enum machine_state)s));
		sep = ", ";
	}
}

/* By bit of enum control_turn. */
static const char *const turn_names[] = { "a save", "a migration or upgrade", "all memory to come" };

static void control_print_turn(FILE *to, const struct control_request *r)
{
	const char *sep = " Waits in line for the end of";
	unsigned turn = control_turn(r, NULL);

	for (size_t i = 0; i < ARRAY_LEN(turn_names); i++) {
		if (!(turn >> i & 1))
			continue;
		fprintf(to, "%s %s", 1u << i == CONTROL_TURN_MEMORY ? ", and for" : sep, turn_names[i]);
		sep = ",";
	}
	if (turn)
		fprintf(to, ".");
}

static void control_print_row(FILE *to, const struct control_request *r)
{
	fprintf(to, "\n### %s\n\n%c%s. ", r->name, r->help[0] - 'a' + 'A', r->help + 1);
	if (r->more)
		fprintf(to, "%s ", r->more);
	fprintf(to, "Allowed while: ");
	control_print_states(to, r->states);
	fprintf(to, ".");
	control_print_turn(to, r);
	fprintf(to, "\n");
	if (r->params)
		fprintf(to, "\n| parameter | type | |\n|---|---|---|\n");
	for (const struct control_param *p = r->params; p && p->name; p++) {
		fprintf(to, "| `%s`%s | %s | %s", p->name, p->is_required ? "" : " (optional)", kind_names[p->kind], p->help);
		if (p->choices)
			fprintf(to, "; one of: %s", p->choices);
		fprintf(to, " |\n");
	}
	if (r->result)
		fprintf(to, "\nResult: %s.\n", r->result);
}

void control_print_doc(FILE *to)
{
	fputs(doc_head, to);
	for (const struct control_request *r = control_requests; r->name; r++)
		control_print_row(to, r);
	fprintf(to, "\n## Events\n\n| event | |\n|---|---|\n");
	for (unsigned i = 0; i < MACHINE_N_EVENTS; i++)
		fprintf(to, "| `%s` | %s |\n", control_events[i].name, control_events[i].help);
	fprintf(to, "| `job` | a job on a disk: what `jobs` tells of it, and `status`: `started`, "
		"`progress`, `paused`, `resumed`, `ready`, `completed`, `cancelled`, or `failed` with a `reason` |\n");
	fprintf(to, "| `waiting` | a request waits in line: what `waiting` tells of it |\n");
	fputs(doc_fork, to);
}

/* --- describe --- */

static json_t *control_describe_params(const struct control_request *r)
{
	json_t *list = json_array();

	for (const struct control_param *p = r->params; p && p->name; p++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:s*}", "name", p->name,
						      "type", kind_names[p->kind], "required", p->is_required,
						      "help", p->help, "choices", p->choices));
	return list;
}

json_t *control_describe(void)
{
	json_t *list = json_array();

	for (const struct control_request *r = control_requests; r->name; r++) {
		json_t *states = json_array();

		for (unsigned s = 0; s < MACHINE_N_STATES; s++) {
			if (r->states >> s & 1)
				json_array_append_new(states, json_string(machine_state_name((enum machine_state)s)));
		}
		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:b}", "name", r->name, "help", r->help,
						      "params", control_describe_params(r), "states", states, "waits", control_turn(r, NULL) != 0));
	}
	return list;
}

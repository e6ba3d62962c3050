/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - `viv network` and `viv port`. */
#include "cli/network.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/client.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resource.h"
#include "cli/table.h"

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define ONE_NETWORK (const struct cli_arg[]){ { "NAME", .help = "the network" }, { .name = NULL } }

static const struct table_column columns[] = {
	{ "NAME", "name", NULL },
	{ "STATE", "status.state", NULL },
	{ "KIND", "spec.kind", NULL },
	{ "SUBNET", "spec.subnet", NULL },
	{ "SUBNET6", "spec.subnet6", NULL },
	{ "BRIDGE", "status.bridge", NULL },
	{ "WHY", "status.reason", NULL },
	{ .title = NULL },
};

static int ls(struct cli *c, struct err *err) { return resource_ls(c, "networks", columns, err); }
static int show(struct cli *c, struct err *err) { return resource_show(c, "networks", err); }
static int set(struct cli *c, struct err *err) { return resource_set(c, "networks", NULL, err); }
static int rm(struct cli *c, struct err *err) { return resource_rm(c, "networks", err); }

static json_t *document(const struct cli *c)
{
	json_t *spec = json_pack("{s:s, s:s*, s:s*, s:s*, s:s*}", "kind", cli_str(c, "--kind"), "subnet", cli_str(c, "--subnet"),
				 "subnet6", cli_str(c, "--subnet6"), "domain", cli_str(c, "--domain"), "bridge",
				 cli_str(c, "--bridge"));

	if (cli_has(c, "--limit-in"))
		json_object_set_new(spec, "limit_in", json_integer((json_int_t)cli_num(c, "--limit-in")));
	if (cli_has(c, "--limit-out"))
		json_object_set_new(spec, "limit_out", json_integer((json_int_t)cli_num(c, "--limit-out")));
	return json_pack("{s:s, s:o}", "name", cli_arg(c, 0), "spec", spec);
}

static int create(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = document(c), *made = NULL;
	char path[256];
	bool is_dry = cli_flag(c, "--dry-run");
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "POST", doc, &made, err, "/v1/networks%s", is_dry ? "?dry-run=1" : "");
	snprintf(path, sizeof(path), "/v1/networks/%s", cli_arg(c, 0));
	if (!r && !is_dry) {
		json_decref(made);
		made = NULL;
		r = client_wait(cl, path, "ready", &made, NULL, err);
	}
	if (r < 0)
		return r;
	return c->is_json || is_dry ? output_json(json_incref(made), err) : 0;
}

/* For people: what is good, what is not, and what to do. */
static void tell(const json_t *checks)
{
	const json_t *check;
	size_t i;

	json_array_foreach(checks, i, check) {
		const char *fix = json_string_value(json_object_get(check, "fix"));

		printf("%-4s ", json_is_true(json_object_get(check, "ok")) ? "ok" : "BAD");
		output_text(stdout, json_string_value(json_object_get(check, "message")));
		putchar('\n');
		if (!fix)
			continue;
		printf("     to do: ");
		output_text(stdout, fix);
		putchar('\n');
	}
}

static int doctor(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *said = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &said, err, "/v1/networks/%s/doctor", cli_arg(c, 0));
	if (r < 0)
		return r;
	bool is_healthy = json_is_true(json_object_get(said, "healthy"));
	if (c->is_json)
		r = output_json(json_incref(said), err);
	else
		tell(json_object_get(said, "checks"));
	return r < 0 ? r : is_healthy ? 0 : CLI_DIFFERENT;
}

const struct cli_command network_ls = {
	.path = "network ls", .summary = "list networks", .about = "By name.", .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "network ls", "all of the project" }, { .line = NULL } }, .run = ls,
};

const struct cli_command network_create = {
	.path = "network create",
	.summary = "make a network",
	.about = "Machines on a network of kind 'nat' or 'host-only' have addresses and reach one another by name; each speaks with "
		 "its own address only. These kinds and 'bridge' are there with root's daemon only.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the network" }, { .name = NULL } },
	.options =
		(const struct cli_option[]){
			{ "--kind", 0, CLI_CHOICE, .choices = "user nat host-only bridge", .def = "nat",
			  .help = "user: each machine alone, out through the host; nat: with a way out behind the host's "
				  "address; host-only: without one; bridge: on a bridge that the host has" },
			{ "--subnet", 0, CLI_STRING, .metavar = "CIDR", .help = "its addresses; else a free subnet of 10.0.0.0/8" },
			{ "--subnet6", 0, CLI_STRING, .metavar = "CIDR", .help = "those of IPv6, or 'none'; else one of fd00::/8" },
			{ "--domain", 0, CLI_STRING, .metavar = "NAME", .help = "of the machines' names; else the network's name" },
			{ "--bridge", 0, CLI_STRING, .metavar = "IFNAME", .help = "of kind bridge: the host's interface" },
			{ "--limit-in", 0, CLI_SIZE, .metavar = "SIZE", .help = "bytes a second to each machine" },
			{ "--limit-out", 0, CLI_SIZE, .metavar = "SIZE", .help = "bytes a second from each machine" },
			{ "--dry-run", 0, CLI_FLAG, .help = "show what it would be, and make nothing" },
			CLIENT_OPTIONS,
			{ .name = NULL },
		},
	.examples =
		(const struct cli_example[]){
			{ "network create lan", "one with a way out" },
			{ "network create lab --kind host-only --subnet 10.7.0.0/24 --limit-out 10M", "one without, and not fast" },
			{ "network create office --kind bridge --bridge br0", "on the wire of the host" },
			{ .line = NULL },
		},
	.run = create,
};

const struct cli_command network_show = {
	.path = "network show", .summary = "tell all about a network", .about = "Its document.", .args = ONE_NETWORK,
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "network show lan", "one" }, { .line = NULL } }, .run = show,
};

const struct cli_command network_set = {
	.path = "network set",
	.summary = "change fields of a network",
	.about = "FIELD is 'domain', 'limit_in', 'limit_out', or 'labels.NAME'; 'null' takes one away. It takes effect at once.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the network" },
					  { "FIELD=VALUE", .help = "what to change", .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--dry-run", 0, CLI_FLAG, .help = "show what it would be, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "network set lan limit_in=10M", "not so fast" }, { .line = NULL } },
	.run = set,
};

const struct cli_command network_rm = {
	.path = "network rm",
	.summary = "delete networks",
	.about = "With all that was made of them on the host. One into which a machine is plugged is refused.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "a network", .is_repeated = true }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "network rm lan", "one" }, { .line = NULL } },
	.run = rm,
};

const struct cli_command network_doctor = {
	.path = "network doctor",
	.summary = "find out what is wrong with a network",
	.about = "Looks whether all is there that the node makes, and goes through the host's rules of nftables, those of Docker, "
		 "firewalld, libvirt and others, to find one that drops the network's packets. It changes nothing. What it does not "
		 "understand of a rule it takes not to match.",
	.args = ONE_NETWORK,
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "network doctor lan", "why does nothing get out?" }, { .line = NULL } },
	.run = doctor,
};

const struct cli_group network_group = {
	.path = "network",
	.summary = "what machines are plugged into",
	.about = "A network of kind 'nat' or 'host-only' is a bridge of the node's own, where dnsmasq(8) gives each machine its address "
		 "and its name. The rules of nftables for it stand in tables of their own.",
	.see_also = ".BR viv (1), .BR viv-port (1), .BR nft (8), .BR dnsmasq (8)",
};

/* --- ports ---------------------------------------------------- */

static const struct table_column port_columns[] = {
	{ "MACHINE", "instance", NULL }, { "INTERFACE", "interface", NULL }, { "NETWORK", "network", NULL },
	{ "ADDRESS", "address", NULL },	 { "ADDRESS6", "address6", NULL },   { "MAC", "mac", NULL },
	{ "TAP", "tap", NULL },		 { .title = NULL },
};

static int ls_ports(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *said = NULL;
	const char *network = cli_str(c, "--network");
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &said, err, "/v1/ports%s%s", network ? "?network=" : "", network ? network : "");
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(json_object_get(said, "items")), err);
	table_print(json_object_get(said, "items"), port_columns);
	return 0;
}

const struct cli_command port_ls = {
	.path = "port ls",
	.summary = "list where machines are plugged in",
	.about = "With the addresses that they have been given. A machine that is off has no tap.",
	.options = (const struct cli_option[]){ { "--network", 0, CLI_STRING, .metavar = "NAME", .help = "only those on this one" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "port ls --network lan", "all on one network" }, { .line = NULL } },
	.run = ls_ports,
};

const struct cli_group port_group = {
	.path = "port", .summary = "machines' interfaces on networks",
	.about = "A port is an interface of a machine on a network; it comes and goes with the machine.",
	.see_also = ".BR viv-network (1)",
};

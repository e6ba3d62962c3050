/* SPDX-License-Identifier: Apache-2.0 */
/* instance_run.c - `viv run`: from nothing to a machine that runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/image.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "node/catalogue.h"

enum { IMAGE_NAME_CAP = 64 };

static bool is_told;

static void tell(const char *sentence)
{
	if (is_told && isatty(STDERR_FILENO)) {
		fprintf(stderr, "\r\033[K");
		output_text(stderr, sentence);
	}
}

static void tell_end(void)
{
	if (is_told && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
}

/* "debian-3f9a": names are given to be typed. */
static void make_name(char *name, size_t cap, const char *image)
{
	uint16_t v = 0;

	(void)!getrandom(&v, sizeof(v), 0);
	snprintf(name, cap, "%.50s-%04x", image, v);
}

/* Make the image NAME, which is not there, from SOURCE (taken). Somebody else may do that at the same time. */
static int make_image(struct client *cl, const char *name, json_t *source, struct err *err)
{
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:{s:o}}", "name", name, "spec", "source", source);
	int r = client_call(cl, "POST", doc, NULL, err, "/v1/images");

	if (r != -EEXIST)
		return r;
	*err = (struct err)ERR_INIT;
	return 0;
}

/* "ubuntu:24.04" is an image of that name if there is one, 'ubuntu-24-04', or what a catalogue has. */
static int need_catalogue(struct cli *c, struct client *cl, const char *reference, char name[IMAGE_NAME_CAP], struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	snprintf(name, IMAGE_NAME_CAP, "%s", reference);
	for (char *p = name; *p; p++)
		if (*p == ':' || *p == '.' || *p == '_')
			*p = '-';
	r = strchr(reference, ':') ? client_call(cl, "GET", NULL, NULL, &why, "/v1/images/%s", name) : -ENOENT;
	if (r != -ENOENT)
		return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
	r = image_catalogue_find(c, cl, reference, name, err);
	if (!r && client_call(cl, "GET", NULL, NULL, &why, "/v1/images/%s", name) < 0)
		r = make_image(cl, name, json_pack("{s:s}", "catalogue", reference), err);
	return r;
}

/* An image of that name, made when it is one that can be; what it is called to NAME. */
static int need_image(struct cli *c, struct client *cl, const char *image, char name[IMAGE_NAME_CAP], struct err *err)
{
	struct catalogue_ref ref;
	struct err why = ERR_INIT;
	char path[256];
	bool is_reference = strchr(image, ':');
	int r = is_reference ? -ENOENT : client_call(cl, "GET", NULL, NULL, &why, "/v1/images/%s", image);

	snprintf(name, IMAGE_NAME_CAP, "%s", image);
	if (r == -ENOENT && !strcmp(image, "debian"))
		r = make_image(cl, name, json_pack("{s:s}", "build", image), err);
	else if (r == -ENOENT && (is_reference || !catalogue_ref_parse(&ref, image, NULL)))
		r = need_catalogue(c, cl, image, name, err);
	else if (r == -ENOENT)
		return err_set(err, r, "%s", why.msg);
	else if (r < 0)
		err_set(err, r, "%s", why.msg);
	if (r == -ENOENT && why.msg[0])
		err_wrap(err, r, "%s", why.msg);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/v1/images/%s", name);
	r = client_wait(cl, path, "ready", NULL, tell, err);
	return r < 0 ? err_wrap(err, r, "image '%s'", name) : 0;
}

/* "8080:80" is "tcp:8080:80". */
static json_t *forwards(const struct cli *c, struct err *err)
{
	json_t *list = json_array();
	const char *p;

	for (unsigned i = 0; (p = cli_nth(c, "--publish", i)) != NULL; i++) {
		bool has_kind = !strncmp(p, "tcp:", 4) || !strncmp(p, "udp:", 4);

		if (!strchr(p, ':')) {
			json_decref(list);
			err_set(err, -EINVAL, "--publish: '%s' is no HOSTPORT:PORT", p);
			return NULL;
		}
		json_array_append_new(list, json_sprintf("%s%s", has_kind ? "" : "tcp:", p));
	}
	return list;
}

/* What is in the file PATH, from malloc(). */
static char *read_file(const char *option, const char *path, struct err *err)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t cap = 0;

	if (f && getdelim(&text, &cap, 0, f) < 0 && feof(f) && text)
		text[0] = 0;
	if (!f || ferror(f)) {
		err_set(err, -errno, "%s: cannot read '%s': %s", option, path, strerror(errno));
		free(text);
		text = NULL;
	}
	if (f)
		fclose(f);
	return text;
}

/* Each line of the files of --ssh-key that is a key. */
static int add_keys(const struct cli *c, json_t *spec, struct err *err)
{
	json_t *list = json_array();
	const char *path;

	for (unsigned i = 0; (path = cli_nth(c, "--ssh-key", i)) != NULL; i++) {
		AUTO(free) char *text = read_file("--ssh-key", path, err);
		char *save = NULL;

		for (char *line = text ? strtok_r(text, "\r\n", &save) : NULL; line; line = strtok_r(NULL, "\r\n", &save))
			if (line[0] != '#')
				json_array_append_new(list, json_string(line));
		if (!text) {
			json_decref(list);
			return err->code;
		}
	}
	return json_object_set_new(spec, "ssh_keys", list);
}

static int add_user_data(const struct cli *c, json_t *spec, struct err *err)
{
	const char *path = cli_str(c, "--user-data");
	AUTO(free) char *text = path ? read_file("--user-data", path, err) : NULL;
	json_t *value = text ? json_string(text) : NULL;

	if (path && !text)
		return err->code;
	if (path && !value)
		return err_set(err, -EINVAL, "--user-data: '%s' is not text in UTF-8", path);
	return path ? json_object_set_new(spec, "user_data", value) : 0;
}

/* What was said of its interface; nothing: it is as its profiles say. */
static int add_network(const struct cli *c, json_t *spec, struct err *err)
{
	const char *network = cli_str(c, "--network");

	if (!network && !cli_has(c, "--address") && !cli_has(c, "--publish"))
		return 0;
	json_t *ports = forwards(c, err);
	if (!ports)
		return err->code;
	json_t *net = json_pack("{s:s, s:s*, s:s*, s:o}", "kind", network ? "network" : "user", "network", network, "address",
				cli_str(c, "--address"), "forwards", ports);
	return json_object_set_new(spec, "networks", json_pack("[o]", net));
}

static void add_profiles(const struct cli *c, json_t *spec)
{
	json_t *list = json_array();
	const char *name;

	for (unsigned i = 0; (name = cli_nth(c, "--profile", i)) != NULL; i++)
		json_array_append_new(list, json_string(name));
	if (json_array_size(list) || cli_flag(c, "--no-profiles"))
		json_object_set(spec, "profiles", list);
	json_decref(list);
}

/* What was not said is left to profiles, and to what is so by default. */
static void add_size(const struct cli *c, json_t *spec)
{
	static const struct { const char *option, *field; } sizes[] = {
		{ "--cpus", "cpus" }, { "--memory", "memory" }, { "--disk-size", "disk_size" },
	};
	static const struct { const char *option, *field; } names[] = { { "--engine", "engine" }, { "--pool", "pool" } };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (cli_has(c, sizes[i].option))
			json_object_set_new(spec, sizes[i].field, json_integer((json_int_t)cli_num(c, sizes[i].option)));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (cli_has(c, names[i].option))
			json_object_set_new(spec, names[i].field, json_string(cli_str(c, names[i].option)));
}

/* The document of the machine NAME; NULL: something was said wrong. */
static json_t *make_document(const struct cli *c, const char *name, const char *image, struct err *err)
{
	json_t *doc = json_pack("{s:s, s:{s:s, s:s}}", "name", name, "spec", "image", image, "template", cli_flag(c, "--cold") ? "none" : "auto");
	json_t *spec = json_object_get(doc, "spec");

	add_profiles(c, spec);
	add_size(c, spec);
	int r = add_network(c, spec, err);
	if (!r && cli_nth(c, "--ssh-key", 0))
		r = add_keys(c, spec, err);
	if (!r)
		r = add_user_data(c, spec, err);
	if (r < 0)
		json_decref(doc);
	return r < 0 ? NULL : doc;
}

static int create(struct client *cl, const struct cli *c, const char *name, const char *image, json_t **out, struct err *err)
{
	AUTO(json_decref) json_t *doc = make_document(c, name, image, err);

	return doc ? client_call(cl, "POST", doc, out, err, "/v1/instances") : err->code;
}

/* What is wrong whatever the image is tells itself before that is made, which takes minutes. NAME may be NULL. */
static int check(struct client *cl, const struct cli *c, const char *name, struct err *err)
{
	static const char of_image[] = "spec.image: ";          /* that one is made next */
	/* A reference to a catalogue is no name. */
	const char *image = strchr(cli_arg(c, 0), ':') ? "image" : cli_arg(c, 0);
	AUTO(json_decref) json_t *doc = make_document(c, name ? name : "machine", image, err);
	struct err why = ERR_INIT;

	if (!doc)
		return err->code;
	int r = client_call(cl, "POST", doc, NULL, &why, "/v1/instances?dry-run");
	bool is_wrong = (r == -EINVAL && strncmp(why.msg, of_image, strlen(of_image)) != 0) || (r == -EEXIST && name);
	return is_wrong ? err_set(err, r, "%s", why.msg) : 0;
}

/* What was made stays when it does not start: what its user has to change may be little. */
static int wait_running(struct client *cl, const char *path, const char *name, json_t **running, struct err *err)
{
	struct err why = ERR_INIT;
	int r = client_wait(cl, path, "running paused stopped", running, tell, &why);

	if (r < 0)
		err_set(err, r, "%s; '%s' stays: 'viv set' changes it, 'viv rm --force %s' deletes it", why.msg, name, name);
	return r;
}

static int run(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *made = NULL, *running = NULL;
	struct progress p;
	char fresh[80], path[256], image[IMAGE_NAME_CAP];
	const char *name = cli_str(c, "--name");

	is_told = !c->is_quiet && !c->is_json;
	progress_start(&p, c, "starting");
	int r = client_open(&cl, c, err);
	if (!r)
		r = check(cl, c, name, err);
	if (!r)
		r = need_image(c, cl, cli_arg(c, 0), image, err);
	if (!r && !name) {
		make_name(fresh, sizeof(fresh), image);
		name = fresh;
	}
	if (!r)
		r = create(cl, c, name, image, &made, err);
	snprintf(path, sizeof(path), "/v1/instances/%s", name ? name : "");
	if (!r)
		r = wait_running(cl, path, name, &running, err);
	tell_end();
	progress_end(&p);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(running), err);
	if (cli_flag(c, "--detach") || !isatty(STDIN_FILENO)) {
		printf("%s\n", name);
		return 0;
	}
	return client_console(cl, name, err);
}

const struct cli_command instance_run = {
	.path = "run",
	.summary = "make a machine from an image, start it, and open its console",
	.about = "What is missing is made first: a daemon of this user's own, and for 'debian' the image, from "
		 "Debian's packages, which "
		 "takes minutes the first time; for others, as 'ubuntu' or 'ubuntu:24.04', what their publishers offer ('viv image catalogue ls'). One "
		 "that has nothing but an image, a size and keys begins as a template of its image that is kept warm, at its prompt within a second or so; "
		 "the first of a kind boots, and a template is made for the next ('viv image show', 'viv why'). Without a terminal, and with --detach, the "
		 "machine's name is printed "
		 "when it runs.",
	.args = (const struct cli_arg[]){ { "IMAGE", .help = "what its disk begins as: an image of this node, or of a catalogue" }, { .name = NULL } },
	.options =
		(const struct cli_option[]){
			{ "--name", 'n', CLI_STRING, .metavar = "NAME",
			  .help = "its name; else one is made from that of the image" },
			{ "--profile", 0, CLI_STRING, .is_repeatable = true, .metavar = "NAME",
			  .help = "what it is where nothing else is said; several, each on top of those before; else 'default', if there is one" },
			{ "--no-profiles", 0, CLI_FLAG, .help = "not even 'default'" },
			{ "--cpus", 'c', CLI_UINT, .metavar = "N", .help = "processors; else as its profiles say, or 1" },
			{ "--memory", 'm', CLI_SIZE, .metavar = "SIZE", .help = "memory; else as its profiles say, or 512M" },
			{ "--disk-size", 0, CLI_SIZE, .metavar = "SIZE",
			  .help = "of its disk; else that of the image" },
			{ "--pool", 0, CLI_STRING, .metavar = "NAME", .help = "where its disk lives; else in 'default'" },
			{ "--engine", 0, CLI_CHOICE, .choices = "auto kvm bt interp",
			  .help = "what executes it; else as its profiles say, or auto" },
			{ "--publish", 'p', CLI_STRING, .is_repeatable = true,
			  .metavar = "[tcp:|udp:][ADDR:]HOSTPORT:PORT", .help = "forward a port of the host" },
			{ "--network", 0, CLI_STRING, .metavar = "NAME",
			  .help = "plug it into this network; else it is alone, with a way out through the host" },
			{ "--address", 0, CLI_STRING, .metavar = "IPV4", .help = "its address there; else one that is free" },
			{ "--user-data", 0, CLI_STRING, .metavar = "FILE",
			  .help = "what the guest shall do when it begins: '#cloud-config' or a script" },
			{ "--ssh-key", 0, CLI_STRING, .is_repeatable = true, .metavar = "FILE",
			  .help = "public keys of who may log in as root" },
			{ "--cold", 0, CLI_FLAG, .help = "boot it, also when a template of its image is kept warm, and have none made" },
			{ "--detach", 'd', CLI_FLAG, .help = "do not open its console" },
			CLIENT_OPTIONS,
			{ .name = NULL },
		},
	.examples =
		(const struct cli_example[]){
			{ "run debian", "a Debian and its console" },
			{ "run ubuntu:24.04", "the image that Ubuntu publishes" },
			{ "run --name web -d -m 1G -p 8080:80 debian",
			  "one in the background, whose port 80 is this host's 8080" },
			{ "run --profile small --profile lan debian", "one that is what two profiles say" },
			{ "run --ssh-key id.pub --user-data setup.sh debian", "one that is told who may log in and what to do" },
			{ .line = NULL },
		},
	.run = run,
};

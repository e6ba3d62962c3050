/* SPDX-License-Identifier: Apache-2.0 */
/* vivd: the daemon of a node, or of one user. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "node/auth.h"
#include "node/certificate.h"
#include "node/instance_order.h"
#include "node/node.h"
#include "node/routes.h"
#include "node/serve.h"
#include "node/template.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/sd.h"
#include "util/str.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
	"usage: vivd [options]\n\n"
	"The daemon that runs machines: root's for the node, or a user's own. Machines go on when it ends, and\n"
	"the next one takes them over.\n\n"
	"  --data DIR         state, images and disks (default: /var/lib/viv or ~/.local/share/viv)\n"
	"  --run DIR          sockets (default: /run/viv or $XDG_RUNTIME_DIR/viv)\n"
	"  --listen URL       serve this address, too: https://ADDRESS:PORT, '*' for all addresses; may be repeated\n"
	"  --tls-cert FILE    the certificate and what it was signed by, as PEM (default: one that it makes itself);\n"
	"                     a new one is shown when the file has changed, on SIGHUP at once\n"
	"  --tls-key FILE     its key\n"
	"  --secrets-key FILE keys that secrets in the store are sealed with; made when it is not there (default: secrets.key in\n"
	"                     the data directory)\n"
	"  --rotate-secrets   seal them with a new key, and forget those before\n"
	"  --group NAME[=ROLE] members of this group of the host may use the socket, as viewer, operator or admin\n"
	"  --vmm FILE         the program that runs a machine (default: viv-vmm beside this one)\n"
	"  --image-tool FILE  the program that builds images (default: the installed one)\n"
	"  --fetch-from NET   images may be fetched from this network, too: 10.1.0.0/16 (default: from the Internet\n"
	"                     alone); may be repeated\n"
	"  --fetch-ca FILE    authorities of one's own that servers of images may have, as PEM\n"
	"  --catalogues DIR   which images publishers offer: descriptions of catalogues (default: the installed ones)\n"
	"  --overcommit-memory FACTOR  machines that run are promised at most so many times the host's memory; 0: any\n"
	"                     number (default: 2)\n"
	"  --overcommit-cpus FACTOR  the same of processors (default: 0)\n"
	"  --idle-after SECONDS  a machine that has done nothing for so long is called idle (default: 300)\n"
	"  --on-stop keep|shutdown|auto  what becomes of machines when this daemon is told to end: they go on, are shut down\n"
	"                     (and started by the next one), or that only when the host goes down, too (default: auto)\n"
	"  --templates N      machines of images that are kept warm, from which others begin at once (default: 4; 0: none)\n"
	"  --templates-size SIZE  what they may take of the disk together (default: 4G)\n"
	"  --ui DIR           files of the web console (default: the installed ones)\n"
	"  --log-level error|warn|info|debug  what is told on standard error (default: info)\n"
	"  --print-api        print the OpenAPI document of what it serves\n"
	"  --version          print the version\n"
	"  --help             print this\n";

/* What becomes of machines when the daemon is told to end. */
enum on_stop { STOP_KEEP, STOP_SHUTDOWN, STOP_AUTO };

struct daemon {
	struct loop *loop;
	struct node *node;              /* NULL: not open yet */
	enum on_stop on_stop;
	bool is_ending;
};

static void end(void *arg)
{
	loop_stop(arg, 0);
}

/* The host is being shut down, and not only this daemon replaced: so says systemd (systemctl(1), is-system-running). */
static bool host_ends(void)
{
	char word[32] = "";
	FILE *f = popen("timeout 10 systemctl is-system-running 2>/dev/null", "re");

	if (f && !fgets(word, sizeof(word), f))
		word[0] = 0;
	if (f)
		pclose(f);
	return !strncmp(word, "stopping", strlen("stopping"));
}

static void on_signal(void *arg, int signo)
{
	struct daemon *d = arg;
	bool ends_all = d->node && !d->is_ending && (d->on_stop == STOP_SHUTDOWN || (d->on_stop == STOP_AUTO && host_ends()));

	(void)signo;
	sd_tell("STOPPING=1");
	if (!ends_all) {
		end(d->loop);
		return;
	}
	d->is_ending = true;
	log_info("shutting %u machines down; a second signal leaves them running", d->node->taken.machines);
	node_drain(d->node, end, d->loop);
}

static void on_hangup(void *arg, int signo)
{
	const struct daemon *d = arg;

	(void)signo;
	if (d->node)
		certificate_reload(d->node->certificate);
}

static int set_level(const char *name)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	for (int i = 0; i <= LOG_DEBUG; i++) {
		if (!strcmp(name, names[i])) {
			log_set_level((enum log_level)i);
			return 0;
		}
	}
	fprintf(stderr, "vivd: '%s' is none of: error warn info debug\n", name);
	return -1;
}

static int print_api(void)
{
	json_t *doc = api_openapi(&node_api);

	json_dumpf(doc, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(doc);
	return 1;
}

static void set_group(struct node_config *c, char *text)
{
	char *role = strchr(text, '=');

	if (role)
		*role++ = 0;
	c->group = text;
	c->group_role = role;
}

/* The option's word as the number of templates ('t'), or what they may take. */
static int set_templates(struct node_config *c, int option)
{
	struct err err = ERR_INIT;
	char *end = NULL;
	unsigned long count = option == 't' ? strtoul(optarg, &end, 10) : 0;
	int r = option == 't' ? 0 : str_parse_size(&c->templates_size, optarg, &err);

	if (option == 't' && (!end || end == optarg || *end || count > TEMPLATES_LIMIT))
		r = err_set(&err, -EINVAL, "'%s' is no number of templates, of which there are at most %d", optarg, TEMPLATES_LIMIT);
	if (r < 0)
		fprintf(stderr, "vivd: %s\n", err.msg);
	else if (option == 't')
		c->templates = (unsigned)count;
	return r;
}

/* The option's word to LIST, of N so far. False: it has been told that there are MAX. */
static bool append(const char **list, unsigned *n, unsigned max, const char *what)
{
	if (*n == max) {
		fprintf(stderr, "vivd: at most %u %s\n", max, what);
		return false;
	}
	list[(*n)++] = optarg;
	return true;
}

/* The option's word as a number from 0 to MOST. False: it has been told that it is none. */
static bool take_number(double *out, const char *option, double most)
{
	char *end = NULL;

	*out = strtod(optarg, &end);
	if (end != optarg && !*end && *out >= 0 && *out <= most)
		return true;
	fprintf(stderr, "vivd: '%s' is nothing for %s: a number from 0 to %.0f\n", optarg, option, most);
	return false;
}

static bool take_on_stop(enum on_stop *out)
{
	static const char *const names[] = { [STOP_KEEP] = "keep", [STOP_SHUTDOWN] = "shutdown", [STOP_AUTO] = "auto" };

	for (int k = 0; k <= STOP_AUTO; k++) {
		if (!strcmp(optarg, names[k])) {
			*out = (enum on_stop)k;
			return true;
		}
	}
	fprintf(stderr, "vivd: '%s' is nothing for --on-stop: keep, shutdown or auto\n", optarg);
	return false;
}

/* 0: go on; else the exit status plus 1. */
static int parse(int argc, char **argv, struct node_config *c, enum on_stop *on_stop)
{
	static const struct option table[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "run", required_argument, NULL, 'r' },
		{ "listen", required_argument, NULL, 'L' },
		{ "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'k' },
		{ "secrets-key", required_argument, NULL, 'K' },
		{ "rotate-secrets", no_argument, NULL, 'R' },
		{ "group", required_argument, NULL, 'g' },
		{ "vmm", required_argument, NULL, 'v' },
		{ "image-tool", required_argument, NULL, 'i' },
		{ "fetch-from", required_argument, NULL, 'f' },
		{ "fetch-ca", required_argument, NULL, 'a' },
		{ "catalogues", required_argument, NULL, 'o' },
		{ "templates", required_argument, NULL, 't' },
		{ "templates-size", required_argument, NULL, 'T' },
		{ "ui", required_argument, NULL, 'u' },
		{ "overcommit-memory", required_argument, NULL, 'm' },
		{ "overcommit-cpus", required_argument, NULL, 'C' },
		{ "on-stop", required_argument, NULL, 's' },
		{ "idle-after", required_argument, NULL, 'I' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "print-api", no_argument, NULL, 'p' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	double idle;
	int o;

	while ((o = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (o) {
		case 'd': c->data_dir = optarg; break;
		case 'r': c->run_dir = optarg; break;
		case 'L':
			if (!append(c->listen, &c->n_listen, NODE_LISTEN_MAX, "addresses"))
				return EXIT_USAGE + 1;
			break;
		case 'f':
			if (!append(c->fetch_from, &c->n_fetch_from, NODE_FETCH_MAX, "networks"))
				return EXIT_USAGE + 1;
			break;
		case 'a': c->fetch_ca = optarg; break;
		case 'c': c->cert = optarg; break;
		case 'k': c->key = optarg; break;
		case 'K': c->secrets_key = optarg; break;
		case 'R': c->rotates_secrets = true; break;
		case 'g': set_group(c, optarg); break;
		case 'v': c->vmm = optarg; break;
		case 'i': c->image_tool = optarg; break;
		case 'o': c->catalogues = optarg; break;
		case 'u': c->ui_dir = optarg; break;
		case 's':
			if (!take_on_stop(on_stop))
				return EXIT_USAGE + 1;
			break;
		case 'm':
			if (!take_number(&c->overcommit_memory, "--overcommit-memory", 1000))
				return EXIT_USAGE + 1;
			break;
		case 'C':
			if (!take_number(&c->overcommit_cpus, "--overcommit-cpus", 1000))
				return EXIT_USAGE + 1;
			break;
		case 'I':
			if (!take_number(&idle, "--idle-after", 86400))
				return EXIT_USAGE + 1;
			c->idle_seconds = (unsigned)idle;
			break;
		case 't':
		case 'T':
			if (set_templates(c, o) < 0)
				return EXIT_USAGE + 1;
			break;
		case 'l':
			if (set_level(optarg) < 0)
				return EXIT_USAGE + 1;
			break;
		case 'p': return print_api();
		case 'V': printf("vivd %s\n", VIV_VERSION); return 1;
		case 'h': fputs(usage, stdout); return 1;
		default: fputs("vivd: see vivd --help\n", stderr); return EXIT_USAGE + 1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "vivd: there is no place for '%s'; see vivd --help\n", argv[optind]);
		return EXIT_USAGE + 1;
	}
	return 0;
}

/* Where it can be reached, how its certificate is known, and, on the first day, how one becomes its administrator. */
static void tell_addresses(const struct node *n)
{
	char url[128];
	const char *token = auth_setup_token(n->auth);

	log_info("serving %s/api.sock", n->run_dir);
	for (unsigned i = 0; serve_url(n, i, url, sizeof(url)); i++)
		log_info("serving %s", url);
	if (n->certificate)
		log_info("the certificate's SHA-256 is %s", certificate_fingerprint(n->certificate));
	if (token[0])
		fprintf(stderr, "There is no administrator yet. Make the first with this token, which is good once and until this "
			"daemon ends:\n\n    %s\n\n    viv login --host %s --setup-token - NAME\n\n", token,
			serve_url(n, 0, url, sizeof(url)));
}

static int run(const struct node_config *c, enum on_stop on_stop, struct err *err)
{
	AUTO(loop_free) struct loop *l = NULL;
	AUTO(node_close) struct node *n = NULL;
	struct daemon d = { .on_stop = on_stop };
	int r = loop_new(&l, err);

	d.loop = l;
	if (!r)
		r = loop_signal_add(l, SIGTERM, on_signal, &d);
	if (!r)
		r = loop_signal_add(l, SIGINT, on_signal, &d);
	if (!r)
		r = loop_signal_add(l, SIGHUP, on_hangup, &d);
	if (!r)
		r = node_open(&n, l, c, err);
	if (r < 0)
		return r;
	d.node = n;
	tell_addresses(n);
	sd_tell("READY=1");
	r = loop_run(l);
	if (node_end(take_ptr(&n)))
		return r;
	log_warn("a pool does not answer, and is not waited for any more");
	_exit(r < 0);
}

int main(int argc, char **argv)
{
	struct node_config c = { .overcommit_memory = 2, .idle_seconds = 300, .templates = TEMPLATES_DEFAULT,
				 .templates_size = TEMPLATES_SIZE };
	enum on_stop on_stop = STOP_AUTO;
	struct err err = ERR_INIT;
	struct rlimit files;

	log_set_name("vivd");
	log_set_level(LOG_INFO);
	int done = parse(argc, argv, &c, &on_stop);
	if (done)
		return done - 1;
	signal(SIGPIPE, SIG_IGN);
	/* It holds the keys of disks, certificates and users: no other program of its user looks into it, no dump of it is left. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* A machine takes four descriptors, a client one. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	if (run(&c, on_stop, &err) < 0) {
		log_error("%s", err.msg[0] ? err.msg : "it failed");
		return 1;
	}
	return 0;
}
